// Twins of descent_point and descent_step in the run of any energy or field, of the samples that still move.
//
//   descent_begin   all samples alive, none stopped, no evaluation, counter = (0, 0)
//   descent_place   at = x + mu s, or x where that is not finite: where the gradient is taken
//   descent_move    x' and the state by a rule; a sample with |g| < g_min stops at `at`; one whose point, E, g or x' is
//                   not finite stays; records E and |g|
//   descent_fill    a sample's last record in the rows of the steps that it no longer made
//
// What differs: at, g and E are of the n samples that a table `rows` names (all, where there is none), closed up; x, the
// state and the records are of all N. A sample that has stopped costs a look at two flags. The number of the step comes
// from memory, so that one recorded step can be replayed; x' is judged before it is written. Bytes: a step reads x, at, g
// and the state twice (the second time from the caches) and writes x and the state. Launch: threads x over the quads of
// one sample, threads y over samples, blocks along x over samples. Deterministic: a sample's sums depend on D alone.
#include "langevin.cuh"
#include "quad.cuh"
#include "rows.cuh"

enum { GRADIENT = 0, NESTEROV = 1, LOOK_AHEAD = 2, ADAM = 3 };

// The samples of this launch: thread row i is sample rows[i], whose first number is at x + row.
#define THIS_SAMPLE(n, D)                                                                          \
  const i64 i = (i64)blockIdx.x * blockDim.y + threadIdx.y;                                        \
  const i64 sample = i < (n) ? (rows == nullptr ? i : rows[i]) : 0, row = sample * (D);            \
  const bool moves = i < (n) && alive[sample] && !stopped[sample];                                 \
  const i64 end = moves ? (D) : 0

extern "C" __global__ void descent_begin(bool* alive, bool* stopped, i64* nfe, u32* counter, i64 N) {
  const i64 n = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (n < N) {
    alive[n] = true;
    stopped[n] = false;
    nfe[n] = 0;
  }
  if (n == 0) counter[0] = counter[1] = 0;
}

// at: (n, D), point: (n,)   x: (N, D), s: the same or null, where at = x
extern "C" __global__ void __launch_bounds__(LANES) descent_place(
    real* at, bool* point, const real* x, const real* s, const i64* rows, const bool* alive, const bool* stopped, i64 n,
    i64 D, real mu) {
  EBM_SHARED(real, shared, 32 * ROW_SUMS);
  THIS_SAMPLE(n, D);
  const bool vector = D % 4 == 0 && ebm_aligned16(at) && ebm_aligned16(x) && ebm_aligned16(s);
  real bad[1] = {0};
  for (i64 q = threadIdx.x; 4 * q < end; q += blockDim.x) {
    Real4 there = quad_load(x + row, q, D, vector);
    if (s != nullptr) {
      const Real4 ahead = quad_load(s + row, q, D, vector);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        there.c[j] += mu * ahead.c[j];
        if (4 * q + j < D && !langevin_finite(there.c[j])) bad[0] = 1;
      }
    }
    quad_store(at + i * D, q, D, vector, there);
  }
  row_sum(bad, shared);
  if (bad[0] != 0) {
    for (i64 q = threadIdx.x; 4 * q < end; q += blockDim.x) {
      quad_store(at + i * D, q, D, vector, quad_load(x + row, q, D, vector));
    }
  }
  if (moves && threadIdx.x == 0) point[i] = bad[0] == 0;
}

// A rule at one step; keep and take are beta and 1 - beta, first and second 1 - beta^t.
struct Rule {
  int kind;
  real eta, keep1, take1, keep2, take2, eps, first, second;
};

// x', and the state's two arrays, of one element.
struct Stepped {
  real x, a, b;
};

static __device__ __forceinline__ Stepped descent_stepped(const Rule& r, real x, real at, real g, real a, real b) {
  if (r.kind == ADAM) {
    a = r.keep1 * a + r.take1 * g;
    b = r.keep2 * b + r.take2 * g * g;
    return {x - r.eta * (a / r.first) / (sqrt(b / r.second) + r.eps), a, b};
  }
  const real next = (r.kind == LOOK_AHEAD ? x : at) - r.eta * g;
  return {next, next - x, b};
}

// A quad of what a sample has, and where its arrays are.
struct Walker {
  real *x, *a, *b;      // the sample's own rows; a and b are null where the rule has none
  const real *at, *g;
  i64 D;
  bool vector;

  __device__ __forceinline__ void stepped(const Rule& rule, i64 q, Real4& x1, Real4& a1, Real4& b1) const {
    const Real4 x0 = quad_load(x, q, D, vector), place = quad_load(at, q, D, vector), slope = quad_load(g, q, D, vector);
    a1 = b1 = {{0, 0, 0, 0}};
    if (a != nullptr) a1 = quad_load(a, q, D, vector);
    if (b != nullptr) b1 = quad_load(b, q, D, vector);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const Stepped next = descent_stepped(rule, x0.c[j], place.c[j], slope.c[j], a1.c[j], b1.c[j]);
      x1.c[j] = next.x;
      a1.c[j] = next.a;
      b1.c[j] = next.b;
    }
  }
};

// x, a, b: (N, D), a the velocity or m, b the mean square, null where there is none   at, g: (n, D)   E, point: (n,), E
// null for a field   alive, stopped, nfe: (N,)   energies, grad_norms: (K, N)   corrections: (K, 2), of Adam
extern "C" __global__ void __launch_bounds__(LANES) descent_move(
    real* x, real* a, real* b, const real* at, const real* g, const real* E, const bool* point, const i64* rows,
    bool* alive, bool* stopped, i64* nfe, real* energies, real* grad_norms, const real* corrections, const u32* counter,
    i64 n, i64 N, i64 D, int kind, real eta, real keep1, real take1, real keep2, real take2, real eps, real g_min) {
  EBM_SHARED(real, shared, 32 * ROW_SUMS);
  THIS_SAMPLE(n, D);
  const i64 k = counter[0];
  const bool vector = D % 4 == 0 && ebm_aligned16(x) && ebm_aligned16(a) && ebm_aligned16(b) && ebm_aligned16(at) &&
                      ebm_aligned16(g);
  const Walker walker = {x + row, a == nullptr ? a : a + row, b == nullptr ? b : b + row, at + i * D, g + i * D, D,
                         vector};
  Squares size = {0, 0, 0};
  for (i64 q = threadIdx.x; 4 * q < end; q += blockDim.x) {
    const Real4 slope = quad_load(walker.g, q, D, vector);
#pragma unroll
    for (int j = 0; j < 4; ++j) squares_add(size, slope.c[j]);
  }
  real sums[3] = {size.large, size.middle, size.small};
  row_sum(sums, shared);
  size = {sums[0], sums[1], sums[2]};
  const real energy = moves && E != nullptr ? E[i] : (real)0, norm = squares_norm(size);
  const bool sound = moves && point[i] && langevin_finite(energy), small = sound && norm < g_min;

  Rule rule = {kind, eta, keep1, take1, keep2, take2, eps, (real)1, (real)1};
  if (kind == ADAM) {
    rule.first = corrections[2 * k];
    rule.second = corrections[2 * k + 1];
  }
  real bad[1] = {sound && squares_finite(size) ? (real)0 : (real)1};
  Real4 x1, a1, b1;
  if (sound && !small) {
    for (i64 q = threadIdx.x; 4 * q < end; q += blockDim.x) {
      walker.stepped(rule, q, x1, a1, b1);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (4 * q + j < D && !langevin_finite(x1.c[j])) bad[0] = 1;
      }
    }
  }
  row_sum(bad, shared);
  const bool next = sound && !small && bad[0] == 0;
  if (moves && threadIdx.x == 0) {
    if (energies != nullptr) energies[k * N + sample] = energy;
    grad_norms[k * N + sample] = norm;
    alive[sample] = next || small;
    stopped[sample] = small;
    nfe[sample] += 1;
  }
  const Real4 rest = {{0, 0, 0, 0}};
  for (i64 q = threadIdx.x; 4 * q < end; q += blockDim.x) {
    if (next) {
      walker.stepped(rule, q, x1, a1, b1);
      quad_store(walker.x, q, D, vector, x1);
      if (a != nullptr) quad_store(walker.a, q, D, vector, a1);
      if (b != nullptr) quad_store(walker.b, q, D, vector, b1);
    } else {
      if (small) quad_store(walker.x, q, D, vector, quad_load(walker.at, q, D, vector));
      if (a != nullptr && kind != ADAM) quad_store(walker.a, q, D, vector, rest);
    }
  }
}

// records: (K, N); a sample n has nfe[n] of its own, at least 1.
extern "C" __global__ void descent_fill(real* records, const i64* nfe, i64 N, i64 K) {
  for (i64 n = blockIdx.x * (i64)blockDim.x + threadIdx.x; n < N; n += (i64)gridDim.x * blockDim.x) {
    const i64 own = nfe[n];
    const real last = own < K ? records[(own - 1) * N + n] : (real)0;
    for (i64 k = own; k < K; ++k) records[k * N + n] = last;
  }
}

EBM_EXPORT(descent_begin)
EBM_EXPORT(descent_place)
EBM_EXPORT(descent_move)
EBM_EXPORT(descent_fill)
