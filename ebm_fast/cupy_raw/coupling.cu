// Twin of coupling_cost: C[i, j] = |x0_i - x1_j|^2, by differences.
//
// A block owns SIDE samples of x0 and of x1: it copies DEPTH elements of each at a time into shared memory, where each
// number read serves EACH differences in registers. |a|^2 + |b|^2 - 2 a.b would be a matrix product, and lose the small
// distances, which are the ones that decide. A sum is made of pieces of PIECE elements, short enough to round little; a
// pair of equal samples costs exactly 0. Per pair and element: 2 operations; bytes: a tile reads 2 / SIDE numbers a pair
// and element. Launch: samples of x0 along x, of x1 along y (strided). Deterministic: one thread makes each sum, in
// order, and in the same order whatever the tile.
#include "cuda.cuh"

static const int DEPTH = 16;  // elements of a sample in shared memory at a time
static const int PIECE = 64;  // elements of one partial sum: a multiple of DEPTH
static const int PAD = 4;     // numbers between two rows of shared memory, against bank conflicts

// a b + c, rounded once: said, so that no compiler may round it twice in one tile and once in another.
static __device__ __forceinline__ float fused(float a, float b, float c) { return fmaf(a, b, c); }
static __device__ __forceinline__ double fused(double a, double b, double c) { return fma(a, b, c); }

// SIDE x SIDE pairs by (SIDE / EACH)^2 threads, EACH x EACH each.
template <int SIDE, int EACH>
static __device__ __forceinline__ void cost_tile(const real* x0, const real* x1, real* cost, i64 B, i64 D,
                                                 real* a_tile, real* b_tile) {
  constexpr int ACROSS = SIDE / EACH, THREADS = ACROSS * ACROSS, WIDTH = SIDE + PAD;
  const int t = threadIdx.x, ti = t / ACROSS, tj = t % ACROSS, own = t % DEPTH;
  const i64 i0 = blockIdx.x * (i64)SIDE;
  const bool whole = EACH == 4 && B % 4 == 0 && ebm_aligned16(cost);
  for (i64 j0 = blockIdx.y * (i64)SIDE; j0 < B; j0 += (i64)gridDim.y * SIDE) {
    real total[EACH][EACH] = {}, part[EACH][EACH] = {};
    for (i64 d0 = 0; d0 < D; d0 += DEPTH) {
      __syncthreads();  // the last tile is read
#pragma unroll
      for (int k = 0; k < SIDE * DEPTH / THREADS; ++k) {
        const int row = t / DEPTH + k * (THREADS / DEPTH);
        const bool there = d0 + own < D;
        a_tile[own * WIDTH + row] = there && i0 + row < B ? x0[(i0 + row) * D + d0 + own] : (real)0;
        b_tile[own * WIDTH + row] = there && j0 + row < B ? x1[(j0 + row) * D + d0 + own] : (real)0;
      }
      __syncthreads();
#pragma unroll
      for (int d = 0; d < DEPTH; ++d) {
        real b[EACH];
#pragma unroll
        for (int j = 0; j < EACH; ++j) b[j] = b_tile[d * WIDTH + EACH * tj + j];
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
          const real a = a_tile[d * WIDTH + EACH * ti + i];
#pragma unroll
          for (int j = 0; j < EACH; ++j) part[i][j] = fused(a - b[j], a - b[j], part[i][j]);
        }
      }
      if ((d0 + DEPTH) % PIECE == 0 || d0 + DEPTH >= D) {
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
#pragma unroll
          for (int j = 0; j < EACH; ++j) {
            total[i][j] += part[i][j];
            part[i][j] = (real)0;
          }
        }
      }
    }
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
      const i64 row = i0 + EACH * ti + i, column = j0 + EACH * tj;
      if (row >= B || column >= B) continue;
      real* const out = cost + row * B + column;
      if (whole) {
        Real4 four;
#pragma unroll
        for (int j = 0; j < 4; ++j) four.c[j] = total[i][j % EACH];
        ebm_store4(out, four);
      } else {
#pragma unroll
        for (int j = 0; j < EACH; ++j) {
          if (column + j < B) out[j] = total[i][j];
        }
      }
    }
  }
}

#define COST(name, SIDE, EACH)                                                                \
  extern "C" __global__ void __launch_bounds__(256)                                           \
      name(const real* x0, const real* x1, real* cost, i64 B, i64 D) {                        \
    EBM_SHARED(real, a_tile, DEPTH * ((SIDE) + PAD));                                         \
    EBM_SHARED(real, b_tile, DEPTH * ((SIDE) + PAD));                                         \
    cost_tile<SIDE, EACH>(x0, x1, cost, B, D, a_tile, b_tile);                                \
  }

COST(coupling_cost_wide, 64, 4)
COST(coupling_cost_slim, 16, 1)

EBM_EXPORT(coupling_cost_wide)
EBM_EXPORT(coupling_cost_slim)
