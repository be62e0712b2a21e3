// Sums over a row of numbers that the threads x of one y share.
#pragma once
#include "cuda.cuh"

#define ROW_SUMS 6
#define LANES (sizeof(real) == 4 ? 1024 : 256)  // threads of a block at most: doubles take twice the registers

// v[0..COUNT) summed over the threads x of each y, the same bits in all of them. blockDim.x: a power of two up to
// 32, or a multiple of 32; shared: ROW_SUMS numbers a warp.
template <int COUNT>
static __device__ __forceinline__ void row_sum(real (&v)[COUNT], real* shared) {
  const int width = blockDim.x < 32 ? blockDim.x : 32;
  for (int apart = width / 2; apart > 0; apart /= 2) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) v[i] += __shfl_xor_sync(EBM_ALL_LANES, v[i], apart);
  }
  if (blockDim.x <= 32) {
    __syncwarp(EBM_ALL_LANES);  // what a lane has read is read before another writes it
    return;
  }
  const int warps = blockDim.x / 32, first = threadIdx.y * warps;
  if (threadIdx.x % 32 == 0) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) shared[(first + threadIdx.x / 32) * ROW_SUMS + i] = v[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < COUNT; ++i) v[i] = 0;
#pragma unroll 1
  for (int warp = first; warp < first + warps; ++warp) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) v[i] += shared[warp * ROW_SUMS + i];
  }
  __syncthreads();
}
