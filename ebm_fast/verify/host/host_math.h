// CUDA's arithmetic beyond <cmath>: min and max of any two types, reciprocal roots, sines of pi x, bits.
#pragma once

template <class A, class B>
static inline std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmin((T)a, (T)b);
  return (T)b < (T)a ? (T)b : (T)a;
}
template <class A, class B>
static inline std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmax((T)a, (T)b);
  return (T)a < (T)b ? (T)b : (T)a;
}

static inline float rsqrtf(float x) { return (float)(1 / std::sqrt((double)x)); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline double rsqrt(double x) { return 1 / std::sqrt(x); }
static inline float __frcp_rn(float x) { return 1 / x; }
static inline float __fdividef(float x, float y) { return x / y; }

// sin(pi x), cos(pi x): x is brought to [-1/4, 1/4] by an exact step, then the quadrant turns the pair.
static inline void sincospi(double x, double* s, double* c) {
  const double pi = 3.14159265358979323846;
  const double r = x - 2 * std::rint(x / 2);  // [-1, 1]
  const double q = std::rint(2 * r);
  const double a = pi * (r - q / 2), sa = std::sin(a), ca = std::cos(a);
  const int turn = (int)q & 3;
  *s = turn == 0 ? sa : turn == 1 ? ca : turn == 2 ? -sa : -ca;
  *c = turn == 0 ? ca : turn == 1 ? -sa : turn == 2 ? -ca : sa;
}
static inline void sincospif(float x, float* s, float* c) {
  double sine, cosine;
  sincospi((double)x, &sine, &cosine);
  *s = (float)sine;
  *c = (float)cosine;
}
static inline void sincospi(float x, float* s, float* c) { sincospif(x, s, c); }

static inline unsigned int __umulhi(unsigned int a, unsigned int b) {
  return (unsigned int)(((unsigned long long)a * b) >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
static inline int __popc(unsigned int x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned int)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }

template <class To, class From>
static inline To ebm_host_bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}
static inline int __float_as_int(float x) { return ebm_host_bits<int>(x); }
static inline unsigned int __float_as_uint(float x) { return ebm_host_bits<unsigned int>(x); }
static inline float __int_as_float(int x) { return ebm_host_bits<float>(x); }
static inline float __uint_as_float(unsigned int x) { return ebm_host_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return ebm_host_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return ebm_host_bits<double>(x); }
