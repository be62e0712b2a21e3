// Control: y[n] = (x[n] - mean) / sqrt(var + eps) over L numbers, by a shuffle reduction in two stages, the second
// taken by warp 0 alone. Launch: a block for each n. Deterministic.
#include "cuda.cuh"

static __device__ real block_sum(real v, real* partial) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  for (int by = 16; by; by >>= 1) v += __shfl_xor_sync(EBM_ALL_LANES, v, by);
  if (lane == 0) partial[warp] = v;
  __syncthreads();
  if (warp == 0) {
    v = lane < warps ? partial[lane] : (real)0;
    for (int by = 16; by; by >>= 1) v += __shfl_xor_sync(EBM_ALL_LANES, v, by);
    if (lane == 0) partial[0] = v;
  }
  __syncthreads();
  v = partial[0];
  __syncthreads();
  return v;
}

extern "C" __global__ void good_norm(real* y, const real* x, int L, real eps) {
  EBM_SHARED(real, partial, 32);
  const real* row = x + blockIdx.x * (i64)L;
  real sum = 0;
  for (int i = threadIdx.x; i < L; i += blockDim.x) sum += row[i];
  const real mean = block_sum(sum, partial) / L;
  real square = 0;
  for (int i = threadIdx.x; i < L; i += blockDim.x) square += (row[i] - mean) * (row[i] - mean);
  const real scale = 1 / sqrt(block_sum(square, partial) / L + eps);
  for (int i = threadIdx.x; i < L; i += blockDim.x) y[blockIdx.x * (i64)L + i] = (row[i] - mean) * scale;
}

EBM_EXPORT(good_norm)
