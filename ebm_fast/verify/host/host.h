// CUDA's words for a C++ compiler: what cuda.cuh includes instead of its device half when EBM_HOST is defined.
// Words that need the machine (barriers, shuffles, shared memory) call the runtime; the rest is ordinary C++.
#pragma once
#include <cmath>
#include <cstring>
#include <math.h>
#include <type_traits>
#include <utility>

#include "runtime.h"
#include "host_types.h"
#include "host_math.h"
#include "host_sync.h"
#include "host_memory.h"

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(n) alignas(n)
#define warpSize 32

namespace ebm_host {

template <class T>
constexpr char code() {  // host_build.py compares it with what it is handed
  using U = std::remove_cv_t<T>;
  if (std::is_same_v<U, float>) return 'f';
  if (std::is_same_v<U, double>) return 'd';
  if (std::is_same_v<U, bool>) return '?';
  if (std::is_integral_v<U> && std::is_signed_v<U>) return "?bh?i???q"[sizeof(U)];
  if (std::is_integral_v<U>) return "?BH?I???Q"[sizeof(U)];
  return 's';
}

template <auto kernel>
struct Entry;

template <class... P, void (*kernel)(P...)>
struct Entry<kernel> {
  template <size_t... I>
  static EBM_UNSEEN void call(void** args, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<P>*>(args[I])...);
  }
  static void body(void** args) { call(args, std::index_sequence_for<P...>()); }
  static const char* sign() {  // a letter per parameter, P before that of what a pointer points to
    static const char letters[] = {(std::is_pointer_v<P> ? 'P' : ' ')..., 0};
    static const char kinds[] = {code<std::remove_pointer_t<P>>()..., 0};
    static char text[2 * sizeof...(P) + 1];
    for (size_t i = 0; i < sizeof...(P); ++i) text[2 * i] = letters[i], text[2 * i + 1] = kinds[i];
    return text;
  }
};

}  // namespace ebm_host

#define EBM_ENTRY __attribute__((visibility("default")))
#define EBM_EXPORT(...) EBM_EXPORT_AS(__VA_ARGS__, 1, )
#define EBM_EXPORT_AS(kernel, gang, ...)                                                  \
  extern "C" EBM_ENTRY int ebm_entry_##kernel(const ebm_host::Launch* how, void** args) { \
    return ebm_host::launch(how, ebm_host::Entry<&kernel>::body, args, #kernel, gang);    \
  }                                                                                       \
  extern "C" EBM_ENTRY const char* ebm_sign_##kernel() { return ebm_host::Entry<&kernel>::sign(); }
#define EBM_CLUSTER(n)
#define EBM_WHOLE_GRID 0
