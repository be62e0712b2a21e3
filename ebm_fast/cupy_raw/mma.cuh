// Products of small matrices by a whole warp: D += A B, with A 16 x k, B k x 8, D 16 x 8, sums in float.
//
// With g = lane / 4 and t = lane % 4, a lane holds
//   D   d[0..3] = D[g, 2t], D[g, 2t + 1], D[g + 8, 2t], D[g + 8, 2t + 1]
//   tf32, k = 8    a[0..3] = A[g, t], A[g + 8, t], A[g, t + 4], A[g + 8, t + 4];   b[0..1] = B[t, g], B[t + 4, g]
//   bf16, k = 16   pairs along k, the lower k in the lower half: a[0..3] = A[g, 2t ..], A[g + 8, 2t ..],
//                  A[g, 2t + 8 ..], A[g + 8, 2t + 8 ..];   b[0..1] = B[2t .., g], B[2t + 8 .., g]
// PTX ISA, "Matrix fragments for mma.m16n8k8" and "mma.m16n8k16". All 32 lanes call together.
#pragma once
#include "cuda.cuh"

#ifdef EBM_HOST
#include "host_mma.h"
#else

// x to 10 bits of mantissa, ties away from zero.
static __device__ __forceinline__ u32 ebm_tf32(float x) {
  u32 bits;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(x));
  return bits;
}

// Two numbers to 7 bits of mantissa, ties to even.
static __device__ __forceinline__ u32 ebm_bf16x2(float low, float high) {
  u32 bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

static __device__ __forceinline__ void ebm_mma_m16n8k8_tf32(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, "
      "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ void ebm_mma_m16n8k16_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
      "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
