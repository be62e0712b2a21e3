// Planted bugs of synchronisation: every kernel here is wrong, and the file's tests say which build says so.
#include "cuda.cuh"

extern "C" __global__ void two_barriers(real* y) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  y[threadIdx.x] = 1;
}

extern "C" __global__ void two_barriers_on_one_line(real* y) {
  if (threadIdx.x < 32) __syncthreads(); else __syncthreads();
  y[threadIdx.x] = 1;
}

static __device__ void meet() { __syncthreads(); }

// The known miss: both calls are the one barrier inside meet().
extern "C" __global__ void two_barriers_in_one_function(real* y) {
  if (threadIdx.x < 32) {
    meet();
  } else {
    meet();
  }
  y[threadIdx.x] = 1;
}

// Lanes 16 to 31 have left; the mask still names them.
extern "C" __global__ void mask_of_exited_lanes(real* y) {
  if (threadIdx.x >= 16) return;
  y[threadIdx.x] = __shfl_xor_sync(EBM_ALL_LANES, (real)threadIdx.x, 1);
}

// The first lanes wait in a shuffle for lanes that then leave.
extern "C" __global__ void mask_of_leaving_lanes(real* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = __shfl_xor_sync(EBM_ALL_LANES, (real)threadIdx.x, 1);
}

// Lane 0 is not in the mask that it gives.
extern "C" __global__ void not_in_own_mask(real* y) {
  y[threadIdx.x] = __shfl_xor_sync(0xfffffffeu, (real)threadIdx.x, 1);
}

// Half of a warp waits in a barrier, the other half in a shuffle of the whole warp.
extern "C" __global__ void deadlock(real* y) {
  if (threadIdx.x < 16) __syncthreads();
  y[threadIdx.x] = __shfl_xor_sync(EBM_ALL_LANES, (real)threadIdx.x, 1);
  if (threadIdx.x >= 16) __syncthreads();
}

// Thread 0 waits for a word that nobody writes.
extern "C" __global__ void spin(volatile int* y) {
  while (threadIdx.x == 0 && y[0] == 0) {
  }
  y[1] = 1;
}

EBM_EXPORT(two_barriers)
EBM_EXPORT(two_barriers_on_one_line)
EBM_EXPORT(two_barriers_in_one_function)
EBM_EXPORT(mask_of_exited_lanes)
EBM_EXPORT(mask_of_leaving_lanes)
EBM_EXPORT(not_in_own_mask)
EBM_EXPORT(deadlock)
EBM_EXPORT(spin)
