// What a kernel may ask of the machine: the one file that knows whether a card or a CPU runs it.
//
// The kernels of this folder go unchanged through NVRTC, nvcc and the host's C++ compiler. For that they keep to
// these rules:
//   shared memory     EBM_SHARED(T, name, n) and EBM_DYN_SHARED(T, name), never __shared__
//   inline PTX        only inside a named wrapper (ebm_...), whose host model is in the verification kit's host.h
//   blocks            never wait for one another, but for ebm_cluster_sync; reductions over blocks take two launches
//   sizes and places  a size is an int, the place of an element an i64: N * D may pass 2^31. A product of ints on the
//                     way to a place says on its line, or the one above, why it fits:  // int: below C
//   tails             every kernel guards them: no size needs to divide another
//   headers           none: what is used beyond the language is a CUDA builtin that host.h knows, or defined here
//   end of a file     EBM_EXPORT(kernel) for each kernel, which is extern "C" __global__ void; one that uses a
//                     wrapper of cluster.cuh is EBM_CLUSTER(n) too and says EBM_EXPORT(kernel, n)
//   16 bytes at once  ebm_load4 and ebm_store4, after ebm_aligned16: a cast to float4 hides the access from the checks
// Defines: EBM_REAL (float or double), and where a file says so EBM_ORDER (0 or 1, the order of its jets).
#pragma once

typedef EBM_REAL real;
typedef long long i64;
typedef unsigned int u32;
typedef unsigned long long u64;

template <class T>
struct Four {
  T c[4];
};
typedef Four<real> Real4;
typedef Four<u32> Word4;

#ifdef EBM_HOST
#include "host.h"
#else

#define EBM_SHARED(T, name, n) __shared__ T name[n]
#define EBM_DYN_SHARED(T, name)                                            \
  extern __shared__ __align__(16) unsigned char ebm_dynamic_shared[];     \
  T* const name = reinterpret_cast<T*>(ebm_dynamic_shared)
#define EBM_EXPORT(...)
#define EBM_CLUSTER(n) __cluster_dims__(n, 1, 1)

// Four reals or words moved at once: p is a multiple of 16 bytes, which the caller has seen to (ebm_aligned16).
static __device__ __forceinline__ Real4 ebm_load4(const real* p) {
  Real4 v;
  if (sizeof(real) == 4) {
    const float4 a = *reinterpret_cast<const float4*>(p);
    v.c[0] = a.x, v.c[1] = a.y, v.c[2] = a.z, v.c[3] = a.w;
  } else {
    const double2 a = *reinterpret_cast<const double2*>(p), b = *reinterpret_cast<const double2*>(p + 2);
    v.c[0] = a.x, v.c[1] = a.y, v.c[2] = b.x, v.c[3] = b.y;
  }
  return v;
}
static __device__ __forceinline__ void ebm_store4(real* p, Real4 v) {
  if (sizeof(real) == 4) {
    *reinterpret_cast<float4*>(p) = make_float4(v.c[0], v.c[1], v.c[2], v.c[3]);
  } else {
    *reinterpret_cast<double2*>(p) = make_double2(v.c[0], v.c[1]);
    *reinterpret_cast<double2*>(p + 2) = make_double2(v.c[2], v.c[3]);
  }
}
static __device__ __forceinline__ Word4 ebm_load4(const u32* p) {
  const uint4 a = *reinterpret_cast<const uint4*>(p);
  return {{a.x, a.y, a.z, a.w}};
}
static __device__ __forceinline__ void ebm_store4(u32* p, Word4 v) {
  *reinterpret_cast<uint4*>(p) = make_uint4(v.c[0], v.c[1], v.c[2], v.c[3]);
}

#endif

// Whether p is a multiple of 16 bytes, as ebm_load4, ebm_store4 and ebm_cp_async16 need it.
static __device__ __forceinline__ bool ebm_aligned16(const void* p) {
  return (reinterpret_cast<u64>(p) & 15) == 0;
}

static const u32 EBM_ALL_LANES = 0xffffffffu;
