// Twins of langevin_step and langevin_jitter, and the two halves of a step of the chain of any energy.
//
//   langevin_step          x' = box(x - eta clip(g) + sigma xi), xi given
//   langevin_jitter        x~ = box(x + sigma xi), xi given
//   langevin_begin         all chains alive, counter = (0, step)
//   langevin_noise_first   t = x~ in the chains that are alive and where x~ is finite, x in the others
//   langevin_update        x = x' in the chains that are alive and where E, g and x' are finite; records E and |g|
//   langevin_tick          counter += 1
//
// What differs: noise is made in registers by address, never stored; the number of the step comes from memory
// (counter = (k, step + k)), so that one recorded step can be replayed K times; x' is judged before it is written,
// so a chain that stops needs no copy of its last state.
// Elements: a step reads x, xi, g and writes x'; an update reads t, g and writes x, each once while D <= 4096 (1024 in
// double). Longer rows have more quads than threads: a thread keeps its last quad and computes the others twice.
// Per quad of noise about 80 integer operations and 2 log, sqrt and sincospi.
// Launch: threads x over the quads of one sample, threads y over samples, blocks along x over samples.
// Deterministic: a sample's sums depend on D alone, not on N, the grid or the order of the blocks.
#include "langevin.cuh"
#include "rows.cuh"

// out = box(x - eta clip(g) + sigma xi).   x, g, xi, out: (N, D)
extern "C" __global__ void __launch_bounds__(LANES) langevin_step(
    real* out, const real* x, const real* g, const real* xi, i64 N, i64 D, real eta, real sigma, real clip,
    real clip_norm, real low, real high) {
  EBM_SHARED(real, shared, 32 * ROW_SUMS);
  const i64 n = (i64)blockIdx.x * blockDim.y + threadIdx.y, row = n * D, quads = n < N ? (D + 3) / 4 : 0;
  const bool vector = D % 4 == 0 && ebm_aligned16(out) && ebm_aligned16(x) && ebm_aligned16(g) && ebm_aligned16(xi);
  real factor = 1;
  if (langevin_finite(clip_norm)) {
    Squares clipped = {0, 0, 0};
    for (i64 q = threadIdx.x; q < quads; q += blockDim.x) {
      const Real4 v = quad_load(g + row, q, D, vector);
#pragma unroll
      for (int j = 0; j < 4; ++j) squares_add(clipped, langevin_clip(v.c[j], clip));
    }
    real sums[3] = {clipped.large, clipped.middle, clipped.small};
    row_sum(sums, shared);
    factor = langevin_factor(squares_norm({sums[0], sums[1], sums[2]}), clip_norm);
  }
  for (i64 q = threadIdx.x; q < quads; q += blockDim.x) {
    Real4 at = quad_load(x + row, q, D, vector);
    const Real4 v = quad_load(g + row, q, D, vector), noise = quad_load(xi + row, q, D, vector);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const real slope = langevin_clip(v.c[j], clip) * factor;
      at.c[j] = langevin_move(at.c[j], slope, noise.c[j], eta, sigma, low, high);
    }
    quad_store(out + row, q, D, vector, at);
  }
}

// out = box(x + sigma xi).   x, xi, out: size numbers, of which a row is as good as many
extern "C" __global__ void langevin_jitter(real* out, const real* x, const real* xi, i64 size, real sigma, real low,
                                           real high) {
  const i64 q = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  const bool vector = size % 4 == 0 && ebm_aligned16(out) && ebm_aligned16(x) && ebm_aligned16(xi);
  if (4 * q >= size) return;
  Real4 at = quad_load(x, q, size, vector);
  const Real4 noise = quad_load(xi, q, size, vector);
#pragma unroll
  for (int j = 0; j < 4; ++j) at.c[j] = langevin_box(at.c[j] + sigma * noise.c[j], low, high);
  quad_store(out, q, size, vector, at);
}

extern "C" __global__ void langevin_begin(bool* alive, u32* counter, i64 N, u32 step) {
  const i64 n = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (n < N) alive[n] = true;
  if (n == 0) {
    counter[0] = 0;
    counter[1] = step;
  }
}

extern "C" __global__ void langevin_tick(u32* counter) {
  counter[0] += 1;
  counter[1] += 1;
}

// t = box(x + sigma xi) where alive; a chain where that is not finite stops at x.   x, t: (N, D), apart
extern "C" __global__ void __launch_bounds__(LANES) langevin_noise_first(
    real* t, const real* x, const u32* chains, bool* alive, const u32* counter, i64 N, i64 D, real sigma,
    real low, real high, u32 k0, u32 k1, u32 stream) {
  EBM_SHARED(real, shared, 32 * ROW_SUMS);
  const i64 n = (i64)blockIdx.x * blockDim.y + threadIdx.y, row = n * D, quads = n < N ? (D + 3) / 4 : 0;
  const bool live = n < N && alive[n];
  const bool vector = D % 4 == 0 && ebm_aligned16(t) && ebm_aligned16(x);
  const u32 chain = live ? chains[n] : 0, step = counter[1];
  real bad[1] = {0};
  for (i64 q = threadIdx.x; q < quads; q += blockDim.x) {
    Real4 at = quad_load(x + row, q, D, vector);
    if (live) {
      const Real4 noise = langevin_normals((u32)q, chain, step, stream, k0, k1);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        at.c[j] = langevin_box(at.c[j] + sigma * noise.c[j], low, high);
        if (4 * q + j < D && !langevin_finite(at.c[j])) bad[0] = 1;
      }
    }
    quad_store(t + row, q, D, vector, at);
  }
  row_sum(bad, shared);
  if (bad[0] != 0) {
    for (i64 q = threadIdx.x; q < quads; q += blockDim.x) {
      quad_store(t + row, q, D, vector, quad_load(x + row, q, D, vector));
    }
    if (threadIdx.x == 0) alive[n] = false;
  }
}

// Everything that quad q of one chain needs to move.
struct Mover {
  const real *t, *g;  // the chain's own rows
  i64 D;
  real eta, sigma, clip, factor, low, high;
  u32 chain, step, stream, k0, k1;
  bool draw, vector;

  // box(t - eta v + sigma xi), v = clip(g) factor; with the noise only where draw is set.
  __device__ __forceinline__ Real4 moved(i64 q, const Real4& slope) const {
    Real4 at = quad_load(t, q, D, vector), noise = {{0, 0, 0, 0}};
    if (draw) noise = langevin_normals((u32)q, chain, step, stream, k0, k1);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      at.c[j] = langevin_move(at.c[j], langevin_clip(slope.c[j], clip) * factor, noise.c[j], eta, sigma, low, high);
    }
    return at;
  }
};

// x = box(t - eta clip(g) [+ sigma xi, if draw]) where alive; a chain where E, g or that is not finite stops at x.
// energies[k, n] = E[n], grad_norms[k, n] = |g_n| for k = counter[0].
// x, t, g: (N, D), of which t may be x itself   E, chains, alive: (N,)   energies, grad_norms: (K, N)
extern "C" __global__ void __launch_bounds__(LANES) langevin_update(
    real* x, const real* t, const real* g, const real* E, const u32* chains, bool* alive, real* energies,
    real* grad_norms, const u32* counter, i64 N, i64 D, real eta, real sigma, real clip, real clip_norm, real low,
    real high, u32 k0, u32 k1, u32 stream, int draw) {
  EBM_SHARED(real, shared, 32 * ROW_SUMS);
  const i64 n = (i64)blockIdx.x * blockDim.y + threadIdx.y, row = n * D, quads = n < N ? (D + 3) / 4 : 0;
  const bool live = n < N && alive[n];
  const bool vector = D % 4 == 0 && ebm_aligned16(x) && ebm_aligned16(t) && ebm_aligned16(g);
  const bool cut = langevin_finite(clip_norm);
  Squares plain = {0, 0, 0}, clipped = {0, 0, 0};
  Real4 slope = {{0, 0, 0, 0}};  // of the thread's last quad
  for (i64 q = threadIdx.x; q < quads; q += blockDim.x) {
    slope = quad_load(g + row, q, D, vector);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      squares_add(plain, slope.c[j]);
      if (cut) squares_add(clipped, langevin_clip(slope.c[j], clip));
    }
  }
  real sums[ROW_SUMS] = {plain.large, plain.middle, plain.small, clipped.large, clipped.middle, clipped.small};
  row_sum(sums, shared);
  plain = {sums[0], sums[1], sums[2]};
  const real energy = n < N ? E[n] : (real)0;
  if (n < N && threadIdx.x == 0) {
    energies[counter[0] * N + n] = energy;
    grad_norms[counter[0] * N + n] = squares_norm(plain);
  }

  const bool sound = live && langevin_finite(energy) && squares_finite(plain);
  const real factor = langevin_factor(squares_norm({sums[3], sums[4], sums[5]}), clip_norm);
  const Mover mover = {t + row, g + row, D,      eta,    sigma, clip, factor, low,   high, sound ? chains[n] : 0,
                       counter[1], stream, k0, k1, draw != 0, vector};
  real bad[1] = {sound ? (real)0 : (real)1};
  Real4 next = slope;  // of the thread's last quad
  i64 last = threadIdx.x;
  if (sound) {
    for (i64 q = threadIdx.x; q < quads; q += blockDim.x) {
      last = q;
      next = mover.moved(q, q + blockDim.x < quads ? quad_load(g + row, q, D, vector) : slope);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (4 * q + j < D && !langevin_finite(next.c[j])) bad[0] = 1;
      }
    }
  }
  row_sum(bad, shared);
  if (bad[0] != 0) {
    if (live && threadIdx.x == 0) alive[n] = false;
    return;
  }
  for (i64 q = threadIdx.x; q < last; q += blockDim.x) {
    quad_store(x + row, q, D, vector, mover.moved(q, quad_load(g + row, q, D, vector)));
  }
  if (last < quads) quad_store(x + row, last, D, vector, next);
}

EBM_EXPORT(langevin_step)
EBM_EXPORT(langevin_jitter)
EBM_EXPORT(langevin_begin)
EBM_EXPORT(langevin_tick)
EBM_EXPORT(langevin_noise_first)
EBM_EXPORT(langevin_update)
