// Activations, one element at a time: value, slope and bend. Twin of ebm_ref.layers.activations.
//
//   code               f                       f'                          f''
//   0 identity         x                       1                           0
//   1 relu             max(x, 0)               [x > 0]                     0
//   2 leaky_relu       x if x > 0 else x / 5   1 if x > 0 else 1 / 5       0
//   3 silu             x s                     s (1 + x z)                 s z (2 + x (z - s))
//   4 gelu             x Phi(x)                Phi(x) + x p                p (2 - x^2)
//   5 softplus         max(x, 0) + log1p(t)    s                           s z
//   6 tanh             tanh x                  1 - f^2                     -2 f f'
//
// t = exp(-|x|), s = 1 / (1 + exp(-x)) and z = 1 - s, both made from t, so that nothing overflows and z keeps its
// digits; p = exp(-x^2 / 2) / sqrt(2 pi). The code is the same for a whole launch, so the switch costs one branch; what
// a caller does not take of the three is never computed, for all is inlined. At 0 relu and leaky_relu take the left
// branch, as the oracle does.
#pragma once
#include "jet.cuh"

enum { IDENTITY = 0, RELU = 1, LEAKY_RELU = 2, SILU = 3, GELU = 4, SOFTPLUS = 5, TANH = 6 };

struct ActivationAt {
  real value, slope, bend;  // f, f', f''
};

JET_FN ActivationAt activation_at(int code, real x) {
  const real one = (real)1, zero = (real)0;
  ActivationAt at = {x, one, zero};
  if (code == RELU || code == LEAKY_RELU) {
    const real leak = code == RELU ? zero : (real)0.2;
    at.value = x > zero ? x : (code == RELU ? zero : leak * x);
    at.slope = x > zero ? one : leak;
  } else if (code == SILU || code == SOFTPLUS) {
    const real t = real_exp(-real_abs(x)), half = one / (one + t);
    const real s = x >= zero ? half : t * half, z = x >= zero ? t * half : half;
    if (code == SILU) {
      at.value = x * s;
      at.slope = s * (one + x * z);
      at.bend = s * z * ((real)2 + x * (z - s));
    } else {
      at.value = (x >= zero ? x : zero) + real_log1p(t);
      at.slope = s;
      at.bend = s * z;
    }
  } else if (code == GELU) {
    const real phi = (real)0.5 * (one + real_erf(x * (real)0.70710678118654752));
    const real p = (real)0.39894228040143268 * real_exp((real)-0.5 * x * x);
    at.value = x * phi;
    at.slope = phi + x * p;
    at.bend = p * ((real)2 - x * x);
  } else if (code == TANH) {
    const real f = real_tanh(x);
    at.value = f;
    at.slope = one - f * f;
    at.bend = (real)-2 * f * at.slope;
  }
  return at;
}

// f(x) and f'(x), of a number and of a jet.
JET_FN real activation_value(int code, real x) { return activation_at(code, x).value; }
JET_FN real activation_slope(int code, real x) { return activation_at(code, x).slope; }

JET_FN Jet activation_value(int code, Jet x) {
  const ActivationAt at = activation_at(code, x.c[0]);
  return jet_chain(x, at.value, at.slope);
}

JET_FN Jet activation_slope(int code, Jet x) {
  const ActivationAt at = activation_at(code, x.c[0]);
  return jet_chain(x, at.slope, at.bend);
}
