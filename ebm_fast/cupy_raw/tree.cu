// The second pass of every sum over samples: partial sums of fixed chunks, added in a fixed tree of pairs.
//
// One thread adds up to 16 partial sums of one number: ((0 + 1) + (2 + 3)) + ...; of an odd number the last waits for
// the next level. 16 is a power of 2, so several launches, or launches over aligned slabs of 16^k, build the very tree
// that one would. Bytes: each partial sum read once; 1 operation each. Launch: numbers along x, groups of 16 along y,
// both strided. Deterministic, and the same for any grid: no atomics, no block waits for another.
#include "cuda.cuh"

static const int LEAVES = 16;

// out[g, e] = sum_j parts[16 g + j, e]; with `rest`, what lies at e >= split goes to rest[e - split] (one group only).
extern "C" __global__ void __launch_bounds__(256)
    tree_sum(const real* parts, int n, i64 size, real* out, real* rest, i64 split) {
  const int groups = (n + LEAVES - 1) / LEAVES;
  for (int g = blockIdx.y; g < groups; g += gridDim.y) {
    const int count = n - g * LEAVES < LEAVES ? n - g * LEAVES : LEAVES;
    for (i64 e = blockIdx.x * (i64)blockDim.x + threadIdx.x; e < size; e += (i64)gridDim.x * blockDim.x) {
      const real* from = parts + (i64)g * LEAVES * size + e;
      real v[LEAVES];
#pragma unroll
      for (int j = 0; j < LEAVES; ++j) v[j] = j < count ? from[j * size] : (real)0;  // + 0 is to wait
#pragma unroll
      for (int step = 1; step < LEAVES; step *= 2) {
#pragma unroll
        for (int j = 0; j + step < LEAVES; j += 2 * step) v[j] += v[j + step];
      }
      if (rest != nullptr && e >= split) {
        rest[e - split] = v[0];
      } else {
        out[g * size + e] = v[0];
      }
    }
  }
}

EBM_EXPORT(tree_sum)
