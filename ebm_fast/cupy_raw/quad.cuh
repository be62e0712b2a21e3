// Four neighbouring elements of one sample, reals or words, as one access of 16 bytes (32 in double) where that is
// allowed.
//
// Quad q of a row of D elements holds elements 4 q .. 4 q + 3; past the end of the row it reads 0 and writes nothing.
// vector: D is a multiple of 4 and every row starts at a multiple of 16 bytes. Its place is counted in quads: from
// row + 4 * q the compiler made four accesses of 4 bytes, having merged the address with the other way's.
#pragma once
#include "cuda.cuh"

template <class T>
static __device__ __forceinline__ Four<T> quad_load(const T* row, i64 q, i64 D, bool vector) {
  if (vector) return ebm_load4(reinterpret_cast<const Four<T>*>(row)[q].c);
  Four<T> quad;
#pragma unroll
  for (int j = 0; j < 4; ++j) quad.c[j] = 4 * q + j < D ? row[4 * q + j] : (T)0;
  return quad;
}

template <class T>
static __device__ __forceinline__ void quad_store(T* row, i64 q, i64 D, bool vector, const Four<T>& quad) {
  if (vector) {
    ebm_store4(reinterpret_cast<Four<T>*>(row)[q].c, quad);
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (4 * q + j < D) row[4 * q + j] = quad.c[j];
  }
}

// For every quad q of every row n that this thread has.
#define EACH_QUAD(n, q, N, D)                                                                        \
  for (i64 n = (i64)blockIdx.y * blockDim.y + threadIdx.y; n < N; n += (i64)gridDim.y * blockDim.y) \
    for (i64 q = (i64)blockIdx.x * blockDim.x + threadIdx.x; 4 * q < D; q += (i64)gridDim.x * blockDim.x)
