// Twin of repulsion: copies that push each other apart, energy and gradient.
//
//   repulsion_push      m = mean_c x_c,  push_c = -2 strength (x_c - m),  squares = sum_c (x_c - m)^2, of each (n, d)
//   repulsion_energy    W[n] = -strength sum_d squares[n, d]
//
// A thread owns one element of a group and all copies of it; then a team of up to 32 lanes adds up the squares of a
// group. A sum over copies is made of pieces of PIECE, which round less than one long sum. Bytes: x twice (the second
// time from the caches, where the copies of a block's elements fit), the gradient once, the squares twice. 5 operations
// a number. Launch: elements, or teams, along x, both strided. Deterministic: sums in an order that follows from the
// shape alone.
#include "cuda.cuh"

static const int PIECE = 16;  // copies of one partial sum

// x, push: (N, C, D)   squares: (N, D)   force: -2 strength
extern "C" __global__ void repulsion_push(const real* x, real* push, real* squares, i64 N, i64 C, i64 D, real force) {
  for (i64 e = blockIdx.x * (i64)blockDim.x + threadIdx.x; e < N * D; e += (i64)gridDim.x * blockDim.x) {
    const i64 n = e / D, first = n * C * D + (e - n * D);
    real sum = (real)0, square = (real)0;
    for (i64 c0 = 0; c0 < C; c0 += PIECE) {
      real part = (real)0;
      for (i64 c = c0; c < C && c < c0 + PIECE; ++c) part += x[first + c * D];
      sum += part;
    }
    const real mean = sum / (real)C;
    for (i64 c0 = 0; c0 < C; c0 += PIECE) {
      real part = (real)0;
      for (i64 c = c0; c < C && c < c0 + PIECE; ++c) {
        const real v = x[first + c * D] - mean;
        part += v * v;
        push[first + c * D] = force * v;
      }
      square += part;
    }
    squares[e] = square;
  }
}

// squares: (N, D)   W: (N,)   lanes: of a team, a power of two up to 32
extern "C" __global__ void repulsion_energy(const real* squares, real* W, i64 N, i64 D, real strength, int lanes) {
  const int teams = blockDim.x / lanes, lane = threadIdx.x % lanes;
  for (i64 n0 = blockIdx.x * (i64)teams; n0 < N; n0 += (i64)gridDim.x * teams) {
    const i64 n = n0 + threadIdx.x / lanes;
    real sum = (real)0;
    if (n < N) {
      for (i64 d = lane; d < D; d += lanes) sum += squares[n * D + d];
    }
    for (int far = lanes / 2; far > 0; far /= 2) sum += __shfl_xor_sync(EBM_ALL_LANES, sum, far);
    if (n < N && lane == 0) W[n] = -strength * sum;
  }
}

EBM_EXPORT(repulsion_push)
EBM_EXPORT(repulsion_energy)
