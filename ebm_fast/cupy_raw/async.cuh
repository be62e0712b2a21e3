// Copies from global to shared memory that go on while the thread works: cp.async, 16 bytes each.
//
//   ebm_cp_async16(to, from)   to in shared, from in global memory, both multiples of 16 bytes
//   ebm_cp_async16_l1(to, from) the same through the first-level cache, for what several warps copy at about the same time
//   ebm_cp_async_commit()      what was begun since the last commit is a group
//   ebm_cp_async_wait<N>()     all groups but the last N have arrived, as this thread sees it; a barrier comes after
// On the host the copy happens at the wait, so that a read before it finds what was there.
#pragma once
#include "cuda.cuh"

#ifndef EBM_HOST

static __device__ __forceinline__ void ebm_cp_async16(void* to, const void* from) {
  const u32 shared = (u32)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(shared), "l"(from) : "memory");
}
static __device__ __forceinline__ void ebm_cp_async16_l1(void* to, const void* from) {
  const u32 shared = (u32)__cvta_generic_to_shared(to);
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16;\n" ::"r"(shared), "l"(from) : "memory");
}
static __device__ __forceinline__ void ebm_cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int left>
static __device__ __forceinline__ void ebm_cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(left) : "memory");
}

#endif
