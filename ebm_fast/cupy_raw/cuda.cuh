// What a kernel may ask of the machine: the one file that knows whether a card or a CPU runs it.
//
// The kernels of this folder go unchanged through NVRTC, nvcc and the host's C++ compiler. For that they keep to
// these rules:
//   shared memory     EBM_SHARED(T, name, n) and EBM_DYN_SHARED(T, name), never __shared__
//   inline PTX        only inside a named wrapper (ebm_...), whose host model is in the verification kit's host.h
//   blocks            never wait for one another, but for ebm_cluster_sync; reductions over blocks take two launches
//   sizes and places  a size is an int, the place of an element an i64: N * D may pass 2^31
//   tails             every kernel guards them: no size needs to divide another
//   headers           none: what is used beyond the language is a CUDA builtin that host.h knows, or defined here
//   end of a file     EBM_EXPORT(kernel) for each kernel, which is extern "C" __global__ void
// Defines: EBM_REAL (float or double), and where a file says so EBM_ORDER (0 or 1, the order of its jets).
#pragma once

typedef EBM_REAL real;
typedef long long i64;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef EBM_HOST
#include "host.h"
#else

#define EBM_SHARED(T, name, n) __shared__ T name[n]
#define EBM_DYN_SHARED(T, name)                                            \
  extern __shared__ __align__(16) unsigned char ebm_dynamic_shared[];     \
  T* const name = reinterpret_cast<T*>(ebm_dynamic_shared)
#define EBM_EXPORT(kernel)

#endif

static const u32 EBM_ALL_LANES = 0xffffffffu;
