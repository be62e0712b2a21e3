// Controls: what the lanes of a warp, and the threads of a block, do together.
#include "cuda.cuh"

// y: (10, 64): for each thread, what each shuffle, vote and ballot gives for v = 3 t + 1.
extern "C" __global__ void good_together(int* y) {
  const int t = threadIdx.x, lane = t & 31, v = 3 * t + 1;
  const u32 half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  y[t] = __shfl_sync(EBM_ALL_LANES, v, 5);
  y[64 + t] = __shfl_up_sync(EBM_ALL_LANES, v, 3);
  y[128 + t] = __shfl_down_sync(EBM_ALL_LANES, v, 3, 8);
  y[192 + t] = __shfl_xor_sync(half, v, 4);
  y[256 + t] = (int)__ballot_sync(EBM_ALL_LANES, lane % 3 == 0);
  y[320 + t] = __any_sync(EBM_ALL_LANES, t == 40) + 2 * __all_sync(EBM_ALL_LANES, t < 32);
  y[384 + t] = __syncthreads_count(t % 5 == 0);
  y[448 + t] = __syncthreads_and(t < 63) + 2 * __syncthreads_and(t < 64);
  y[512 + t] = __syncthreads_or(t == 63) + 2 * __syncthreads_or(t == 64);
  y[576 + t] = (int)__popc(__activemask() & (1u << lane));
}

// y = x reversed within each half of a warp, through shared memory that only __syncwarp guards.
extern "C" __global__ void good_syncwarp(real* y, const real* x) {
  EBM_SHARED(real, s, 64);
  const int t = threadIdx.x, first = t & ~15;
  const u32 half = t & 16 ? 0xffff0000u : 0x0000ffffu;
  for (int i = 0; i < 3; ++i) {
    s[t] = x[t] + i;
    __syncwarp(half);
    y[64 * i + t] = s[first + 15 - (t & 15)];
    __syncwarp();
  }
}

// y = x moved on by one thread, K times over.
extern "C" __global__ void good_barriers(real* y, const real* x, int K) {
  EBM_SHARED(real, s, 64);
  real v = x[threadIdx.x];
  for (int k = 0; k < K; ++k) {
    s[threadIdx.x] = v;
    __syncthreads();
    v = s[(threadIdx.x + 1) % blockDim.x];
    __syncthreads();
  }
  y[threadIdx.x] = v;
}

EBM_EXPORT(good_barriers)
EBM_EXPORT(good_together)
EBM_EXPORT(good_syncwarp)
