// Planted races: every kernel here is wrong, and the file's tests say which build says so.
#include "cluster.cuh"

// y = x reversed within the block, with no barrier between the write and the read.
extern "C" __global__ void no_barrier_before_use(real* y, const real* x) {
  EBM_SHARED(real, s, 64);
  s[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = s[63 - threadIdx.x];
}

// y = sum over tiles of each tile reversed; nothing keeps the next tile from being written while this one is read.
extern "C" __global__ void no_barrier_before_next_tile(real* y, const real* x, int tiles) {
  EBM_SHARED(real, s, 64);
  real sum = 0;
  for (int i = 0; i < tiles; ++i) {
    s[threadIdx.x] = x[64 * i + threadIdx.x];
    __syncthreads();
    sum += s[63 - threadIdx.x];
  }
  y[threadIdx.x] = sum;
}

// s += x by all threads at once, without an atomic.
extern "C" __global__ void unsynchronised_sum(real* y, const real* x) {
  EBM_SHARED(real, s, 1);
  if (threadIdx.x == 0) s[0] = 0;
  __syncthreads();
  s[0] += x[threadIdx.x];
  __syncthreads();
  if (threadIdx.x == 0) y[0] = s[0];
}

// Each block writes the same word.
extern "C" __global__ void blocks_write_one_word(real* y, const real* x) {
  if (threadIdx.x == 0) y[0] = x[0];
}

// Block 0 reads what block 1 writes.
extern "C" __global__ void blocks_read_and_write(real* y) {
  if (threadIdx.x == 0 && blockIdx.x == 1) y[0] = 1;
  if (threadIdx.x == 0 && blockIdx.x == 0) y[1] = y[0];
}

// The lanes of one warp exchange through shared memory without __syncwarp.
extern "C" __global__ void no_syncwarp(real* y, const real* x) {
  EBM_SHARED(real, s, 32);
  s[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = s[31 - threadIdx.x];
}

// A shuffle is no barrier for memory.
extern "C" __global__ void shuffle_for_a_barrier(real* y, const real* x) {
  EBM_SHARED(real, s, 32);
  s[threadIdx.x] = x[threadIdx.x];
  const real v = __shfl_xor_sync(EBM_ALL_LANES, s[threadIdx.x], 1);
  y[threadIdx.x] = s[31 - threadIdx.x] + 0 * v;
}

// A word is added to with an atomic and read without one.
extern "C" __global__ void atomic_and_plain(u32* y, u32* z) {
  atomicAdd(y, 1);
  if (threadIdx.x == 0) z[blockIdx.x] = y[0];
}

// The other block's number is read before the cluster has met.
extern "C" __global__ void EBM_CLUSTER(2) no_cluster_barrier(real* y, const real* x) {
  EBM_SHARED(real, s, 1);
  if (threadIdx.x == 0) s[0] = x[blockIdx.x];
  __syncthreads();
  if (threadIdx.x == 0) y[blockIdx.x] = *ebm_cluster_shared(s, 1 - ebm_cluster_rank());
  ebm_cluster_sync();
}

// The cluster meets before the read and not after it: a block may leave while its number is read.
extern "C" __global__ void EBM_CLUSTER(2) no_cluster_barrier_at_end(real* y, const real* x) {
  EBM_SHARED(real, s, 1);
  if (threadIdx.x == 0) s[0] = x[blockIdx.x];
  ebm_cluster_sync();
  if (threadIdx.x == 0) y[blockIdx.x] = *ebm_cluster_shared(s, 1 - ebm_cluster_rank());
}

EBM_EXPORT(no_barrier_before_use)
EBM_EXPORT(no_barrier_before_next_tile)
EBM_EXPORT(unsynchronised_sum)
EBM_EXPORT(blocks_write_one_word)
EBM_EXPORT(blocks_read_and_write)
EBM_EXPORT(no_syncwarp)
EBM_EXPORT(shuffle_for_a_barrier)
EBM_EXPORT(atomic_and_plain)
EBM_EXPORT(no_cluster_barrier, 2)
EBM_EXPORT(no_cluster_barrier_at_end, 2)
