// Shared memory, atomics, and accesses of 16 bytes.
#pragma once

// In the race build every plain access calls a hook of race.cpp; these functions tell it what they do themselves.
#ifdef EBM_HOST_RACE
#define EBM_UNSEEN __attribute__((no_sanitize("thread"), noinline))
#else
#define EBM_UNSEEN inline
#endif

#define EBM_INLINED __attribute__((always_inline))  // so that the line of a report is the kernel's

#define EBM_SHARED(T, name, n)                 \
  static ebm_host::SharedSlot ebm_slot_##name; \
  T(&name)[n] = *static_cast<T(*)[n]>(ebm_host::shared_array(&ebm_slot_##name, #name, sizeof(T[n]), sizeof(T)))
#define EBM_DYN_SHARED(T, name) T* const name = static_cast<T*>(ebm_host::dynamic_shared(sizeof(T)))

#define ebm_load4(...) ebm_host::load4(EBM_PLACE, __VA_ARGS__)
#define ebm_store4(...) ebm_host::store4(EBM_PLACE, __VA_ARGS__)
#define ebm_cp_async16(...) ebm_host::copy_later(EBM_PLACE, 16, __VA_ARGS__)
#define ebm_cp_async16_l1(...) ebm_cp_async16(__VA_ARGS__)
#define ebm_cp_async_commit() ebm_host::copy_commit()

template <int left>
static inline void ebm_cp_async_wait() {
  ebm_host::copy_wait(left);
}

namespace ebm_host {

enum Access { LOAD, STORE, ATOMIC };
#ifdef EBM_HOST_RACE
void touched(const void* p, size_t bytes, Access how, void* pc);  // race.cpp
#define EBM_TOUCHED(p, bytes, how) touched(p, bytes, how, __builtin_return_address(0))
#else
#define EBM_TOUCHED(p, bytes, how) ((void)0)
#endif

template <class T>
[[maybe_unused]] static EBM_UNSEEN Four<T> load4(const Place* at, const T* p) {
  if (reinterpret_cast<uintptr_t>(p) & 15) misaligned(at, p, 16);
  EBM_TOUCHED(p, sizeof(Four<T>), LOAD);
  Four<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
[[maybe_unused]] static EBM_UNSEEN void store4(const Place* at, T* p, Four<T> v) {
  if (reinterpret_cast<uintptr_t>(p) & 15) misaligned(at, p, 16);
  EBM_TOUCHED(p, sizeof(Four<T>), STORE);
  std::memcpy(p, &v, sizeof v);
}

// One thread of the machine runs every CUDA thread, so a plain read and write are an atomic one.
template <class T, class F>
[[maybe_unused]] static EBM_UNSEEN T atomic(T* p, F change) {
  EBM_TOUCHED(p, sizeof(T), ATOMIC);
  const T old = *p;
  *p = change(old);
  return old;
}

}  // namespace ebm_host

template <class T>
static inline T __ldg(const T* p) {
  return *p;
}

#define EBM_ATOMIC(name, result)                                    \
  template <class T>                                                \
  static inline EBM_INLINED T name(T* p, std::common_type_t<T> v) { \
    return ebm_host::atomic(p, [v](T old) { return (T)(result); }); \
  }
EBM_ATOMIC(atomicAdd, old + v)
EBM_ATOMIC(atomicSub, old - v)
EBM_ATOMIC(atomicMax, old < v ? v : old)
EBM_ATOMIC(atomicMin, v < old ? v : old)
EBM_ATOMIC(atomicExch, v)
EBM_ATOMIC(atomicAnd, (old) & v)
EBM_ATOMIC(atomicOr, old | v)
EBM_ATOMIC(atomicXor, old ^ v)
#undef EBM_ATOMIC
template <class T>
static inline EBM_INLINED T atomicCAS(T* p, std::common_type_t<T> compare, std::common_type_t<T> v) {
  return ebm_host::atomic(p, [=](T old) { return old == compare ? (T)v : old; });
}
