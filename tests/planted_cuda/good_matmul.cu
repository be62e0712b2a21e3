// Controls: C = A B by one warp's mma, in tf32 and in bf16. A: (16, K), B: (K, 8), C: (16, 8), K a multiple of 16.
#include "mma.cuh"

extern "C" __global__ void good_matmul_tf32(float* C, const float* A, const float* B, int K) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  float d[4] = {0, 0, 0, 0};
  for (int k = 0; k < K; k += 8) {
    const u32 a[4] = {ebm_tf32(A[g * K + k + t]), ebm_tf32(A[(g + 8) * K + k + t]), ebm_tf32(A[g * K + k + t + 4]),
                      ebm_tf32(A[(g + 8) * K + k + t + 4])};
    const u32 b[2] = {ebm_tf32(B[(k + t) * 8 + g]), ebm_tf32(B[(k + t + 4) * 8 + g])};
    ebm_mma_m16n8k8_tf32(d, a, b);
  }
  for (int i = 0; i < 4; ++i) C[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = d[i];
}

extern "C" __global__ void good_matmul_bf16(float* C, const float* A, const float* B, int K) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  float d[4] = {0, 0, 0, 0};
  for (int k = 0; k < K; k += 16) {
    u32 a[4], b[2];
    for (int i = 0; i < 4; ++i) {
      const float* from = A + (g + 8 * (i % 2)) * K + k + 2 * t + 8 * (i / 2);
      a[i] = ebm_bf16x2(from[0], from[1]);
    }
    for (int i = 0; i < 2; ++i) {
      const float* from = B + (k + 2 * t + 8 * i) * 8 + g;
      b[i] = ebm_bf16x2(from[0], from[8]);
    }
    ebm_mma_m16n8k16_bf16(d, a, b);
  }
  for (int i = 0; i < 4; ++i) C[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = d[i];
}

EBM_EXPORT(good_matmul_tf32)
EBM_EXPORT(good_matmul_bf16)
