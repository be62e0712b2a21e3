// Twin of group_norm, the activation that follows in a network taken in the same pass.
//
// A team of lanes owns one group of one sample, m = L C/G numbers. Groups of 1, 2 or 4 channels are narrower than what
// memory moves at a time, so there the teams of up to 8 / (C/G) neighbouring groups lie side by side: lanes go along
// the channels of all of them first, then along pixels. Such a span is 1 to 32 lanes, a power of two, or a block.
// Forwards it reads its numbers three times, the second and third time out of the caches: the mean, the variance about
// the mean, the result. Backwards it computes mean and r = 1 / sqrt(var + eps) again, or takes them where
// group_norm_moments has kept them for the parameters' sums, then makes g = gamma dy f'(z), which it leaves in dx, and
// the two means, then dx. Bytes: x read and y written once; backwards x and dy read and dx written once from memory.
// Operations per number: about 8, backwards 16, and the activation. Launch: groups along x, strided. Deterministic: a
// lane adds its numbers in order, lanes add up in a fixed tree; the team's size and place follow from the shape alone.
#include "activation.cuh"

static const int WARPS = 8;                              // of a block
static const int SIDE = 8;                               // channels that lie side by side, at most
static const int BLOCKS = sizeof(real) == 4 ? 4 : 2;     // of one multiprocessor, at least: what bounds the registers

struct Groups {
  int N;
  i64 L;
  int C, G;
};

// The numbers that one lane visits of a group: lane, lane + lanes, ...; their places are stepped to, not divided out.
struct Walk {
  i64 e, at;  // number e of the group lies at x[at], from the group's first
  int channel;
  int lanes, width, turn, wrap;  // turn: channels a step goes on; wrap: from a group's last channel to the next pixel
  i64 jump;
};

JET_FN Walk walk(int lane, int lanes, int width, int C) {
  const int channel = lane % width;
  return {lane, (i64)(lane / width) * C + channel, channel, lanes, width, lanes % width, C - width,
          (i64)(lanes / width) * C + lanes % width};
}

JET_FN void step(Walk& on) {
  on.e += on.lanes;
  on.at += on.jump;
  on.channel += on.turn;
  if (on.channel >= on.width) {
    on.channel -= on.width;
    on.at += on.wrap;
  }
}

// This thread's team: its `number` in the block and the thread's `lane` of it. The teams that lie side by side make a
// `span` of threads; the bits `skip` of threadIdx.x say which of them a thread is in. They are none unless the groups'
// width is a power of two.
struct Team {
  int number, lane, span, skip;
};

JET_FN Team team(int lanes, int side, int width) {
  // int: threads of a block, and channels of teams side by side
  const int span = lanes * side, skip = width * (side - 1);
  const int within = threadIdx.x % span, place = (threadIdx.x & skip) / width;
  // int: as above
  return {(int)threadIdx.x / span * side + place, within / (width * side) * width + within % width, span, skip};
}

// The sum over the team, on every lane of it.
JET_FN Jet team_sum(Jet v, const Team& team, real* shared) {
  for (int far = (team.span < 32 ? team.span : 32) / 2; far > 0; far /= 2) {
    if (far & team.skip) continue;
#pragma unroll
    for (int o = 0; o < JET; ++o) v.c[o] += __shfl_xor_sync(EBM_ALL_LANES, v.c[o], far);
  }
  if (team.span <= 32) return v;
  real* const sums = shared + (threadIdx.x & team.skip);
  __syncthreads();  // the last sum is read
  if ((threadIdx.x % 32 & ~team.skip) == 0) {
#pragma unroll
    for (int o = 0; o < JET; ++o) sums[(o * WARPS + threadIdx.x / 32) * SIDE] = v.c[o];
  }
  __syncthreads();
#pragma unroll
  for (int o = 0; o < JET; ++o) {
    v.c[o] = (real)0;
#pragma unroll
    for (int warp = 0; warp < WARPS; ++warp) v.c[o] += sums[(o * WARPS + warp) * SIDE];
  }
  return v;
}

struct Moments {
  Jet mean, r;
};

// m: how many numbers this team's group has, 0 where there is no group for it.
JET_FN Moments group_moments(const Jet* x, i64 m, const Walk& from, const Team& own, real count, real eps,
                             real* shared) {
  Jet sum = jet((real)0);
  for (Walk on = from; on.e < m; step(on)) sum = sum + x[on.at];
  const Jet mean = team_sum(sum, own, shared) / count;
  Jet square = jet((real)0);
  for (Walk on = from; on.e < m; step(on)) {
    const Jet centred = x[on.at] - mean;
    square = square + centred * centred;
  }
  const Jet var = team_sum(square, own, shared) / count;
  return {mean, jet((real)1) / sqrt(var + eps)};
}

// For each group of this block's teams: `offset` of its first number, `channel0` its first channel, `group` its number.
#define EACH_GROUP(groups, lanes, side)                                                   \
  const int teams = blockDim.x / (lanes), width = (groups).C / (groups).G;                \
  const i64 all = (i64)(groups).N * (groups).G, numbers = (groups).L * width;             \
  const Team own = team(lanes, side, width);                                              \
  const Walk from = walk(own.lane, lanes, width, (groups).C);                             \
  for (i64 group0 = blockIdx.x * (i64)teams; group0 < all; group0 += (i64)gridDim.x * teams)

#define THIS_GROUP(groups)                                               \
  const i64 group = group0 + own.number;                                 \
  const i64 m = group < all ? numbers : 0, sample = group / (groups).G;  \
  const int channel0 = (int)(group % (groups).G) * width;                \
  const i64 offset = m > 0 ? sample * (groups).L * (groups).C + channel0 : 0

extern "C" __global__ void __launch_bounds__(256, BLOCKS)
    group_norm_forward(const Jet* x, const real* gamma, const real* beta, Jet* y, int N, i64 L, int C, int G, real eps,
                       int code, int lanes, int side) {
  EBM_SHARED(real, shared, JET * WARPS * SIDE);
  const Groups groups = {N, L, C, G};
  EACH_GROUP(groups, lanes, side) {
    THIS_GROUP(groups);  // int: a channel, below C
    const Moments at_group = group_moments(x + offset, m, from, own, (real)numbers, eps, shared);
    for (Walk on = from; on.e < m; step(on)) {
      const i64 here = offset + on.at;
      const int c = channel0 + on.channel;
      y[here] = activation_value(code, gamma[c] * ((x[here] - at_group.mean) * at_group.r) + beta[c]);
    }
  }
}

// moments: (N G, 2), mean and r of each group
extern "C" __global__ void __launch_bounds__(256, BLOCKS)
    group_norm_moments(const Jet* x, Jet* moments, int N, i64 L, int C, int G, real eps, int lanes,
                       int side) {
  EBM_SHARED(real, shared, JET * WARPS * SIDE);
  const Groups groups = {N, L, C, G};
  EACH_GROUP(groups, lanes, side) {
    THIS_GROUP(groups);  // int: a channel, below C
    const Moments at_group = group_moments(x + offset, m, from, own, (real)numbers, eps, shared);
    if (own.lane == 0 && m > 0) {
      moments[2 * group] = at_group.mean;
      moments[2 * group + 1] = at_group.r;
    }
  }
}

// dx = r (g - mean(g) - x_hat mean(g x_hat)), g = gamma dy f'(gamma x_hat + beta); moments may be null; dx may be dy
extern "C" __global__ void __launch_bounds__(256, BLOCKS)
    group_norm_backward_dx(const Jet* x, const real* gamma, const real* beta, const Jet* dy, const Jet* moments,
                           Jet* dx, int N, i64 L, int C, int G, real eps, int code, int lanes, int side) {
  EBM_SHARED(real, shared, JET * WARPS * SIDE);
  const Groups groups = {N, L, C, G};
  EACH_GROUP(groups, lanes, side) {
    THIS_GROUP(groups);  // int: a channel, below C
    Moments kept = {};
    if (moments == nullptr) {
      kept = group_moments(x + offset, m, from, own, (real)numbers, eps, shared);
    } else if (m > 0) {
      kept = {moments[2 * group], moments[2 * group + 1]};
    }
    Jet sum = jet((real)0), slope = jet((real)0);
    for (Walk on = from; on.e < m; step(on)) {
      const i64 here = offset + on.at;
      const int c = channel0 + on.channel;
      const Jet x_hat = (x[here] - kept.mean) * kept.r;
      const Jet g = gamma[c] * (dy[here] * activation_slope(code, gamma[c] * x_hat + beta[c]));
      dx[here] = g;
      sum = sum + g;
      slope = slope + g * x_hat;
    }
    sum = team_sum(sum, own, shared) / (real)numbers;
    slope = team_sum(slope, own, shared) / (real)numbers;
    for (Walk on = from; on.e < m; step(on)) {
      const i64 here = offset + on.at;
      const Jet x_hat = (x[here] - kept.mean) * kept.r;
      dx[here] = kept.r * (dx[here] - sum - x_hat * slope);
    }
  }
}

// parts[chunk, 0, c] = sum over the chunk's samples and pixels of dz x_hat, parts[chunk, 1, c] of dz = dy f'(z);
// of both the coefficient `component`
extern "C" __global__ void __launch_bounds__(256, BLOCKS)
    group_norm_backward_params(const Jet* x, const real* gamma, const real* beta, const Jet* dy, const Jet* moments,
                               real* parts, int N, i64 L, int C, int G, int code, int component, int samples,
                               int chunks, int columns) {
  EBM_SHARED(real, sums, 2 * 256);
  const int rows = blockDim.x / columns, row = threadIdx.x / columns, width = C / G;
  for (int chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const i64 n0 = (i64)chunk * samples, end = n0 + samples < N ? n0 + samples : N;
    // int: a channel, or less than 2^21 channels beyond C, which is below 2^30
    for (int c0 = blockIdx.y * columns; c0 < C; c0 += gridDim.y * columns) {
      const int c = c0 + threadIdx.x % columns;
      real dgamma = (real)0, dbeta = (real)0;
      if (c < C) {
        for (i64 pixel = n0 * L + row; pixel < end * L; pixel += rows) {
          const Jet* kept = moments + 2 * (pixel / L * G + c / width);
          const Jet x_hat = (x[pixel * C + c] - kept[0]) * kept[1];
          const Jet dz = dy[pixel * C + c] * activation_slope(code, gamma[c] * x_hat + beta[c]);
          const Jet product = dz * x_hat;
          dgamma += coefficient(product, component);
          dbeta += coefficient(dz, component);
        }
      }
      sums[threadIdx.x] = dgamma;
      sums[256 + threadIdx.x] = dbeta;
      for (int half = rows / 2; half > 0; half /= 2) {
        __syncthreads();
        if (row < half) {
          sums[threadIdx.x] += sums[threadIdx.x + half * columns];
          sums[256 + threadIdx.x] += sums[256 + threadIdx.x + half * columns];
        }
      }
      if (row == 0 && c < C) {
        parts[(i64)chunk * 2 * C + c] = sums[threadIdx.x];
        parts[(i64)chunk * 2 * C + C + c] = sums[256 + threadIdx.x];
      }
      __syncthreads();  // before the next tile's sums
    }
  }
}

EBM_EXPORT(group_norm_forward)
EBM_EXPORT(group_norm_moments)
EBM_EXPORT(group_norm_backward_dx)
EBM_EXPORT(group_norm_backward_params)
