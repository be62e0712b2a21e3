// The small steps of a field beside the layers that it shares with an energy, and the head of an energy on a field.
//
//   jet_parts            y = x_0, z = x_1: both coefficients of jets, apart
//   upsample_forward     y[n, 2h + a, 2w + b, c] = x[n, h, w, c]                     a, b in {0, 1}
//   upsample_backward    dx[n, h, w, c] = sum over a, b of dy[n, 2h + a, 2w + b, c]
//   head_dots            E[n] = factor sum_d a[n, d] b[n, d]
//   head_scale           y[n, d] = (or, with `add`, +=) factor dE[n] a[n, d]
//
// Each is a pass over memory, neighbours in neighbouring threads. Upsampling is linear, so the coefficients of a jet are
// to it so many more channels, and it runs in order 0 whatever the jets are. A team of up to 32 lanes makes one dot.
// What is overwritten in place is read by the thread that writes it, and by no other. Bytes: each array once. Launch:
// elements, or teams, along x (strided). Deterministic: a team follows from the shape alone.
#include "jet.cuh"

JET_FN i64 first_element() { return blockIdx.x * (i64)blockDim.x + threadIdx.x; }
JET_FN i64 element_stride() { return (i64)gridDim.x * blockDim.x; }

// x: n jets   y, z: n numbers
extern "C" __global__ void jet_parts(const Jet* x, real* y, real* z, i64 n) {
  for (i64 i = first_element(); i < n; i += element_stride()) {
    const Jet a = x[i];
    y[i] = a.c[0];
    z[i] = a.c[JET - 1];
  }
}

// The first of the four places, in a map twice as wide and high, of number i of a map of rows of W pixels.
JET_FN i64 upsampled(i64 i, i64 W, i64 C) {
  const i64 pixel = i / C, row = pixel / W;
  return (2 * row * (2 * W) + 2 * (pixel - row * W)) * C + (i - pixel * C);
}

// x: (rows, W, C), y: (2 rows, 2 W, C), rows those of all samples
extern "C" __global__ void upsample_forward(const real* x, real* y, i64 rows, i64 W, i64 C) {
  for (i64 i = first_element(); i < rows * W * C; i += element_stride()) {
    real* const to = y + upsampled(i, W, C);
    const real v = x[i];
    to[0] = v;
    to[C] = v;
    to[2 * W * C] = v;
    to[(2 * W + 1) * C] = v;
  }
}

// dy: (2 rows, 2 W, C), dx: (rows, W, C)
extern "C" __global__ void upsample_backward(const real* dy, real* dx, i64 rows, i64 W, i64 C) {
  for (i64 i = first_element(); i < rows * W * C; i += element_stride()) {
    const real* const from = dy + upsampled(i, W, C);
    dx[i] = (from[0] + from[C]) + (from[2 * W * C] + from[(2 * W + 1) * C]);
  }
}

// a, b: (N, D), E: (N,), jets   lanes: of a team, a power of two up to 32
extern "C" __global__ void head_dots(const Jet* a, const Jet* b, Jet* E, i64 N, i64 D, real factor, int lanes) {
  const int teams = blockDim.x / lanes, lane = threadIdx.x % lanes;
  for (i64 n0 = blockIdx.x * (i64)teams; n0 < N; n0 += (i64)gridDim.x * teams) {
    const i64 n = n0 + threadIdx.x / lanes;
    Jet sum = jet((real)0);
    if (n < N) {
      for (i64 d = lane; d < D; d += lanes) sum = sum + a[n * D + d] * b[n * D + d];
    }
    for (int far = lanes / 2; far > 0; far /= 2) {
#pragma unroll
      for (int o = 0; o < JET; ++o) sum.c[o] += __shfl_xor_sync(EBM_ALL_LANES, sum.c[o], far);
    }
    if (n < N && lane == 0) E[n] = factor * sum;
  }
}

// a, y: (N, D), dE: (N,), jets; y may be a
extern "C" __global__ void head_scale(const Jet* a, const Jet* dE, Jet* y, i64 N, i64 D, real factor, int add) {
  for (i64 i = first_element(); i < N * D; i += element_stride()) {
    const Jet v = factor * dE[i / D] * a[i];
    y[i] = add ? y[i] + v : v;
  }
}

EBM_EXPORT(jet_parts)
EBM_EXPORT(upsample_forward)
EBM_EXPORT(upsample_backward)
EBM_EXPORT(head_dots)
EBM_EXPORT(head_scale)
