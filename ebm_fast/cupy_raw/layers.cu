// The small steps of a network beside its convolutions and norms. Twins of ebm_ref.layers: pool, activations, residual;
// and the seeds that turn numbers into jets.
//
// Each is a pass over memory, neighbours in neighbouring threads; nothing is worth a tile. A pool's sum is one thread's,
// pixel after pixel. A pool is linear, so the coefficients of a jet are to it so many more channels, and it runs in order
// 0 whatever the jets are. What is overwritten in place is read by the thread that writes it, and by no other. Bytes:
// each array once. Launch: numbers, jets, or a pool's (n, c) along x (grid-stride); pool_backward has pixels along y.
// Deterministic.
#include "activation.cuh"

JET_FN i64 first_element() { return blockIdx.x * (i64)blockDim.x + threadIdx.x; }
JET_FN i64 element_stride() { return (i64)gridDim.x * blockDim.x; }

// y = (x, v); no x stands for ones, no v for zeros.   x, v: n numbers or null, y: n jets
extern "C" __global__ void jet_seed(const real* x, const real* v, Jet* y, i64 n) {
  for (i64 i = first_element(); i < n; i += element_stride()) {
    Jet a = jet(x == nullptr ? (real)1 : x[i]);
    if (v != nullptr) a.c[JET - 1] = v[i];
    y[i] = a;
  }
}

// y = the last coefficient of x.   x: n jets, y: n numbers
extern "C" __global__ void jet_last(const Jet* x, real* y, i64 n) {
  for (i64 i = first_element(); i < n; i += element_stride()) y[i] = x[i].c[JET - 1];
}

// y = f(x).   x, y: n jets
extern "C" __global__ void activation_forward(const Jet* x, Jet* y, i64 n, int code) {
  for (i64 i = first_element(); i < n; i += element_stride()) y[i] = activation_value(code, x[i]);
}

// dx = f'(x) dy.   x, dy, dx: n jets; dx may be dy
extern "C" __global__ void activation_backward(const Jet* x, const Jet* dy, Jet* dx, i64 n, int code) {
  for (i64 i = first_element(); i < n; i += element_stride()) dx[i] = activation_slope(code, x[i]) * dy[i];
}

// y = f(a + b), and a = a + b where f is not the identity: its slope is taken there.   a, b, y: n jets; y may be a or b
extern "C" __global__ void residual_sum(Jet* a, const Jet* b, Jet* y, i64 n, int code) {
  for (i64 i = first_element(); i < n; i += element_stride()) {
    const Jet z = a[i] + b[i];
    if (code != IDENTITY) a[i] = z;
    y[i] = activation_value(code, z);
  }
}

// y[n, c] = (sum_l x[n, l, c]) / share.   x: (N, L, C), y: (N, C)
extern "C" __global__ void pool_forward(const real* x, real* y, i64 N, i64 L, int C, real share) {
  for (i64 i = first_element(); i < N * C; i += element_stride()) {
    const i64 n = i / C;
    const real* pixel = x + n * L * C + (i - n * C);
    real sum = (real)0;
    for (i64 l = 0; l < L; ++l) sum += pixel[l * C];
    y[i] = sum / share;
  }
}

// dx[n, l, c] = dy[n, c] / share.   dy: (N, C), dx: (N, L, C)
extern "C" __global__ void pool_backward(const real* dy, real* dx, i64 N, i64 L, int C, real share) {
  for (i64 i = first_element(); i < N * C; i += element_stride()) {
    const i64 n = i / C;
    real* pixel = dx + n * L * C + (i - n * C);
    const real slope = dy[i] / share;
    for (i64 l = blockIdx.y; l < L; l += gridDim.y) pixel[l * C] = slope;
  }
}

EBM_EXPORT(jet_seed)
EBM_EXPORT(jet_last)
EBM_EXPORT(activation_forward)
EBM_EXPORT(activation_backward)
EBM_EXPORT(residual_sum)
EBM_EXPORT(pool_forward)
EBM_EXPORT(pool_backward)
