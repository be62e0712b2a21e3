// Controls for blocks that meet: atomics, phases of a whole grid, a sum over a cluster; copies under way; vectors.
#include "async.cuh"
#include "cluster.cuh"

// total += sum of x, threads of all blocks at once.
extern "C" __global__ void good_atomic(u32* total, const u32* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) atomicAdd(total, x[i]);
}

// K times: y = x shifted by one, round the whole grid; then x = y.
extern "C" __global__ void good_phases(real* x, real* y, int n, int K, u32* arrived) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  for (int k = 0; k < K; ++k) {
    if (i < n) y[i] = x[(i + 1) % n];
    ebm_grid_sync(arrived);
    if (i < n) x[i] = y[i];
    ebm_grid_sync(arrived);
  }
}

// y[cluster] = sum over the two blocks' threads of x.
extern "C" __global__ void EBM_CLUSTER(2) good_cluster(real* y, const real* x) {
  EBM_SHARED(real, s, 64);
  EBM_SHARED(real, total, 1);
  s[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
  __syncthreads();
  if (threadIdx.x == 0) {
    real sum = 0;
    for (int i = 0; i < (int)blockDim.x; ++i) sum += s[i];
    total[0] = sum;
  }
  ebm_cluster_sync();
  if (threadIdx.x == 0 && ebm_cluster_rank() == 0) y[blockIdx.x / 2] = total[0] + *ebm_cluster_shared(total, 1);
  ebm_cluster_sync();
}

// y = 2 x, through tiles of 4 numbers per thread that are copied one tile ahead. x: (tiles, blockDim.x, 4)
extern "C" __global__ void good_pipeline(float* y, const float* x, int tiles) {
  EBM_DYN_SHARED(float, stage);
  const int row = 4 * blockDim.x, mine = 4 * threadIdx.x;
  ebm_cp_async16(stage + mine, x + mine);
  ebm_cp_async_commit();
  for (int i = 0; i < tiles; ++i) {
    if (i + 1 < tiles) ebm_cp_async16(stage + (i + 1) % 2 * row + mine, x + (i + 1) * row + mine);
    ebm_cp_async_commit();
    ebm_cp_async_wait<1>();
    __syncthreads();
    for (int j = threadIdx.x; j < row; j += blockDim.x) y[i * row + j] = 2 * stage[i % 2 * row + j];
    __syncthreads();
  }
}

// y = 3 x four at a time. n a multiple of 4.
extern "C" __global__ void good_vector(real* y, const real* x, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  Real4 v = ebm_load4(x + i);
  for (int j = 0; j < 4; ++j) v.c[j] *= 3;
  ebm_store4(y + i, v);
}

EBM_EXPORT(good_atomic)
EBM_EXPORT(good_phases, EBM_WHOLE_GRID)
EBM_EXPORT(good_cluster, 2)
EBM_EXPORT(good_pipeline)
EBM_EXPORT(good_vector)
