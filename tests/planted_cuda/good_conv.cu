// Controls with tiles in shared memory: a 3 x 3 convolution and a transpose with and without padding.
#include "cuda.cuh"

#define TILE 32
#define STEP 8

// y[p, o] = sum over r, s, c of x[2i + r, 2j + s, c] w[r, s, c, o]: stride 2, no padding, one image.
// x: (H, W, C), w: (9 C, O), y: (P Q, O). Launch: blocks of 16 x 16 threads over tiles of 32 pixels x 32 channels.
extern "C" __global__ void good_conv(real* y, const real* x, const real* w, int W, int C, int O, int P, int Q) {
  EBM_SHARED(real, a, STEP * (TILE + 1));
  EBM_SHARED(real, b, STEP * TILE);
  const int tid = threadIdx.y * 16 + threadIdx.x, K = 9 * C;
  const int p0 = blockIdx.x * TILE, o0 = blockIdx.y * TILE;
  real sum[2][2] = {{0, 0}, {0, 0}};
  for (int k0 = 0; k0 < K; k0 += STEP) {
    const int i = tid / STEP, k = k0 + tid % STEP, p = p0 + i;
    const int c = k % C, s = k / C % 3, r = k / C / 3;
    a[tid % STEP * (TILE + 1) + i] =
        p < P * Q && k < K ? x[((2 * (p / Q) + r) * W + 2 * (p % Q) + s) * C + c] : (real)0;
    const int kb = k0 + tid / TILE, o = o0 + tid % TILE;
    b[tid] = kb < K && o < O ? w[kb * (i64)O + o] : (real)0;
    __syncthreads();
    for (int j = 0; j < STEP; ++j)
      for (int m = 0; m < 2; ++m)
        for (int n = 0; n < 2; ++n)
          sum[m][n] += a[j * (TILE + 1) + threadIdx.y + 16 * m] * b[j * TILE + threadIdx.x + 16 * n];
    __syncthreads();
  }
  for (int m = 0; m < 2; ++m)
    for (int n = 0; n < 2; ++n) {
      const int p = p0 + threadIdx.y + 16 * m, o = o0 + threadIdx.x + 16 * n;
      if (p < P * Q && o < O) y[p * (i64)O + o] = sum[m][n];
    }
}

template <int pitch>
static __device__ void transpose(float* y, const float* x, int n) {
  EBM_SHARED(float, tile, 32 * pitch);
  const int i = blockIdx.y * 32 + threadIdx.y, j = blockIdx.x * 32 + threadIdx.x;
  tile[threadIdx.y * pitch + threadIdx.x] = x[i * n + j];
  __syncthreads();
  y[(blockIdx.x * 32 + threadIdx.y) * n + blockIdx.y * 32 + threadIdx.x] = tile[threadIdx.x * pitch + threadIdx.y];
}

// y = x^T, (n, n), n a multiple of 32; blocks of 32 x 32.
extern "C" __global__ void good_transpose(float* y, const float* x, int n) { transpose<33>(y, x, n); }
extern "C" __global__ void slow_transpose(float* y, const float* x, int n) { transpose<32>(y, x, n); }

// The same, written straight to global memory.
extern "C" __global__ void slowest_transpose(float* y, const float* x, int n) {
  const int i = blockIdx.y * 32 + threadIdx.y, j = blockIdx.x * 32 + threadIdx.x;
  y[j * n + i] = x[i * n + j];
}

EBM_EXPORT(good_conv)
EBM_EXPORT(good_transpose)
EBM_EXPORT(slow_transpose)
EBM_EXPORT(slowest_transpose)
