// Planted bugs of memory: every kernel here is wrong, and the file's tests say which build says so.
#include "async.cuh"

// y[i] = x[i + 1]: the last thread reads one past the end of x.
extern "C" __global__ void read_past(real* y, const real* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i + 1];
}

// y[i + 1] = x[i]: the last thread writes one past the end of y.
extern "C" __global__ void write_past(real* y, const real* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i + 1] = x[i];
}

// The last thread writes one past the end of s.
extern "C" __global__ void shared_write_past(real* y, const real* x) {
  EBM_SHARED(real, s, 64);
  s[threadIdx.x + 1] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = threadIdx.x ? s[threadIdx.x] : (real)0;
}

// Half of s is read and never written.
extern "C" __global__ void shared_unwritten(real* y, const real* x) {
  EBM_SHARED(real, s, 64);
  if (threadIdx.x < 32) s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}

// Four reals at once from a place that is no multiple of 16 bytes.
extern "C" __global__ void load_misaligned(real* y, const real* x) {
  ebm_store4(y + 4 * threadIdx.x, ebm_load4(x + 4 * threadIdx.x + 1));
}

// The copy is read with no wait after it; the same numbers happen to lie there already.
extern "C" __global__ void copy_early(float* y, const float* x) {
  EBM_SHARED(float, s, 128);
  for (int j = 0; j < 4; ++j) s[4 * threadIdx.x + j] = x[4 * threadIdx.x + j];
  ebm_cp_async16(s + 4 * threadIdx.x, x + 4 * threadIdx.x);
  ebm_cp_async_commit();
  for (int j = 0; j < 4; ++j) y[4 * threadIdx.x + j] = s[4 * threadIdx.x + j];
  ebm_cp_async_wait<0>();
}

// Two tiles are under way, the wait leaves both of them so, and the first is read.
extern "C" __global__ void copy_one_stage_early(float* y, const float* x) {
  EBM_SHARED(float, s, 256);
  for (int i = 0; i < 2; ++i) {
    ebm_cp_async16(s + 128 * i + 4 * threadIdx.x, x + 128 * i + 4 * threadIdx.x);
    ebm_cp_async_commit();
  }
  ebm_cp_async_wait<2>();
  __syncthreads();
  for (int j = threadIdx.x; j < 128; j += blockDim.x) y[j] = s[j];
}

// A shift by 32 or more has no value.
extern "C" __global__ void shift_too_far(int* y, const int* x) { y[threadIdx.x] = 1 << x[threadIdx.x]; }

// y[1] comes from y[0], which no launch has written.
extern "C" __global__ void global_unwritten(real* y) {
  if (threadIdx.x == 0) y[1] = y[0];
}

// The first thread writes one before the beginning of s.
extern "C" __global__ void shared_write_before(real* y, const real* x) {
  EBM_SHARED(real, s, 64);
  real* const p = s - 1;
  p[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = threadIdx.x ? p[threadIdx.x] : (real)0;
}

// The first thread writes one before the beginning of y.
extern "C" __global__ void write_before(real* y, const real* x) {
  real* const p = y - 1;
  p[threadIdx.x] = x[threadIdx.x];
}

EBM_EXPORT(shared_write_before)
EBM_EXPORT(write_before)
EBM_EXPORT(global_unwritten)
EBM_EXPORT(read_past)
EBM_EXPORT(write_past)
EBM_EXPORT(shared_write_past)
EBM_EXPORT(shared_unwritten)
EBM_EXPORT(load_misaligned)
EBM_EXPORT(copy_early)
EBM_EXPORT(copy_one_stage_early)
EBM_EXPORT(shift_too_far)
