// Jet: a number and its derivative along s. Twin of ebm_ref.jet for orders 0 and 1, one element at a time.
//
//   product    (a b)_1 = a_0 b_1 + a_1 b_0
//   quotient   (a / b)_1 = (a_1 - (a / b)_0 b_1) / b_0
//   chain      f(a)_1 = f'(a_0) a_1
//
// An array of jets of shape (..., C) is an array of reals of shape (..., C, EBM_ORDER + 1). With EBM_ORDER 0 a jet is
// one real and every rule here is plain arithmetic: nothing is stored, loaded or computed for order 1.
#pragma once
#include "cuda.cuh"

static const int JET = EBM_ORDER + 1;  // coefficients of a jet

struct Jet {
  real c[JET];
};

#define JET_FN static __device__ __forceinline__

// --------------------------------------------------------------- the machine's functions, by the type of the argument

JET_FN float real_exp(float x) { return expf(x); }
JET_FN double real_exp(double x) { return exp(x); }
JET_FN float real_log1p(float x) { return log1pf(x); }
JET_FN double real_log1p(double x) { return log1p(x); }
JET_FN float real_tanh(float x) { return tanhf(x); }
JET_FN double real_tanh(double x) { return tanh(x); }
JET_FN float real_erf(float x) { return erff(x); }
JET_FN double real_erf(double x) { return erf(x); }
JET_FN float real_sqrt(float x) { return sqrtf(x); }
JET_FN double real_sqrt(double x) { return sqrt(x); }
JET_FN real real_abs(real x) { return x < (real)0 ? -x : x; }  // of -0 it is -0, which no caller minds

// ---------------------------------------------------------------------------------------------------------- jets

// The constant a.
JET_FN Jet jet(real a) {
  Jet y = {};
  y.c[0] = a;
  return y;
}

// a_k; k is the same for a whole launch.
JET_FN real coefficient(Jet a, int k) {
#if EBM_ORDER == 1
  return k == 0 ? a.c[0] : a.c[1];
#else
  return a.c[0];
#endif
}

// f(a) from f(a_0) and f'(a_0).
JET_FN Jet jet_chain(Jet a, real f, real slope) {
  Jet y;
  y.c[0] = f;
#if EBM_ORDER == 1
  y.c[1] = slope * a.c[1];
#endif
  return y;
}

JET_FN Jet operator+(Jet a, Jet b) {
  for (int k = 0; k < JET; ++k) a.c[k] += b.c[k];
  return a;
}

JET_FN Jet operator-(Jet a, Jet b) {
  for (int k = 0; k < JET; ++k) a.c[k] -= b.c[k];
  return a;
}

JET_FN Jet operator-(Jet a) {
  for (int k = 0; k < JET; ++k) a.c[k] = -a.c[k];
  return a;
}

JET_FN Jet operator*(Jet a, Jet b) {
  Jet y;
  y.c[0] = a.c[0] * b.c[0];
#if EBM_ORDER == 1
  y.c[1] = a.c[0] * b.c[1] + a.c[1] * b.c[0];
#endif
  return y;
}

JET_FN Jet operator/(Jet a, Jet b) {
  Jet y;
  y.c[0] = a.c[0] / b.c[0];
#if EBM_ORDER == 1
  y.c[1] = (a.c[1] - y.c[0] * b.c[1]) / b.c[0];
#endif
  return y;
}

JET_FN Jet operator+(Jet a, real b) {
  a.c[0] += b;
  return a;
}

JET_FN Jet operator*(Jet a, real b) {
  for (int k = 0; k < JET; ++k) a.c[k] *= b;
  return a;
}

JET_FN Jet operator/(Jet a, real b) {
  for (int k = 0; k < JET; ++k) a.c[k] /= b;
  return a;
}

JET_FN Jet operator*(real b, Jet a) { return a * b; }
JET_FN Jet operator+(real b, Jet a) { return a + b; }
JET_FN Jet operator-(Jet a, real b) { return a + -b; }
JET_FN Jet operator-(real a, Jet b) { return -b + a; }

JET_FN Jet exp(Jet a) {
  const real f = real_exp(a.c[0]);
  return jet_chain(a, f, f);
}

JET_FN Jet sqrt(Jet a) {
  const real f = real_sqrt(a.c[0]);
  return jet_chain(a, f, (real)0.5 / f);
}

JET_FN Jet tanh(Jet a) {
  const real f = real_tanh(a.c[0]);
  return jet_chain(a, f, (real)1 - f * f);
}

JET_FN Jet erf(Jet a) {
  const real bell = (real)1.1283791670955126 * real_exp(-a.c[0] * a.c[0]);  // 2 / sqrt(pi) exp(-x^2)
  return jet_chain(a, real_erf(a.c[0]), bell);
}

JET_FN Jet log1p(Jet a) { return jet_chain(a, real_log1p(a.c[0]), (real)1 / ((real)1 + a.c[0])); }
