// Blocks that wait for one another.
//
//   ebm_cluster_sync()                   every thread of the cluster has come; what it wrote to shared memory is seen
//   ebm_cluster_rank()                   this block's place in its cluster
//   ebm_cluster_shared(p, rank)          the shared variable at p, in block `rank` of the cluster
//   ebm_grid_sync(arrived)               every thread of the grid has come; arrived: a counter, 0 before the launch.
//                                        All blocks must be on the card at once, so the launch must be a cooperative one
// A kernel of clusters of n blocks says `void EBM_CLUSTER(n) name(...)` and EBM_EXPORT(name, n); one that waits for the
// whole grid says EBM_EXPORT(name, EBM_WHOLE_GRID).
#pragma once
#include "cuda.cuh"

#ifndef EBM_HOST

static __device__ __forceinline__ void ebm_cluster_sync() {
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n" ::: "memory");
}
static __device__ __forceinline__ u32 ebm_cluster_rank() {
  u32 rank;
  asm("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
  return rank;
}
template <class T>
static __device__ __forceinline__ T* ebm_cluster_shared(T* p, u32 rank) {
  u64 there;
  asm("mapa.u64 %0, %1, %2;\n" : "=l"(there) : "l"(reinterpret_cast<u64>(p)), "r"(rank));
  return reinterpret_cast<T*>(there);
}
static __device__ __forceinline__ void ebm_grid_sync(u32* arrived) {
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) {
    const u32 blocks = gridDim.x * gridDim.y * gridDim.z;
    __threadfence();
    const u32 mine = atomicAdd(arrived, 1);
    const u32 goal = mine - mine % blocks + blocks;
    u32 seen;
    do {
      asm volatile("ld.acquire.gpu.u32 %0, [%1];\n" : "=r"(seen) : "l"(arrived) : "memory");
    } while ((int)(seen - goal) < 0);
  }
  __syncthreads();
}

#endif
