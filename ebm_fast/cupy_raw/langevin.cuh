// What one element, one quad of elements and one sample of a Langevin step do. Twin of ebm_ref.samplers.langevin.
//
//   x' = box(x - eta clip(g) factor + sigma xi)     factor = clip_norm / max(|clip(g)|, clip_norm)
//
// A bound of infinity is one that is off. NaN passes through every bound: comparisons are written so that a NaN
// fails them, where fmin and fmax would put a number in its place.
#pragma once
#include "philox.cuh"

static __device__ __forceinline__ bool langevin_finite(real x) { return x - x == 0; }

// v within [-clip, clip].
static __device__ __forceinline__ real langevin_clip(real v, real clip) {
  return v > clip ? clip : v < -clip ? -clip : v;
}

// x within [low, high].
static __device__ __forceinline__ real langevin_box(real x, real low, real high) {
  return x > high ? high : x < low ? low : x;
}

// box(x - eta v + sigma xi).
static __device__ __forceinline__ real langevin_move(real x, real v, real xi, real eta, real sigma, real low,
                                                     real high) {
  return langevin_box(x - eta * v + sigma * xi, low, high);
}

// clip_norm / max(norm, clip_norm): 1 up to clip_norm, NaN where the norm is NaN; 1 where clip_norm is off.
static __device__ __forceinline__ real langevin_factor(real norm, real clip_norm) {
  if (!langevin_finite(clip_norm) || norm <= clip_norm) return (real)1;
  return clip_norm / norm;
}

// The four normals of elements 4 quad .. 4 quad + 3 of a chain, by address.
static __device__ __forceinline__ Real4 langevin_normals(u32 quad, u32 chain, u32 step, u32 stream, u32 k0, u32 k1) {
  return philox_normals(philox(quad, chain, step, stream, k0, k1));
}

// A 2-norm in one pass, in which no square overflows or vanishes: three sums of squares, of numbers above LARGE
// times DOWN, below SMALL times UP, and of those between as they are. A number that is not finite makes a sum not
// finite; finite ones never do.   Blue 1978, A portable Fortran program to find the Euclidean norm of a vector.
struct Squares {
  real large, middle, small;
};

#define SQUARES_LARGE (sizeof(real) == 4 ? (real)1e14f : (real)1e145)
#define SQUARES_SMALL (sizeof(real) == 4 ? (real)1e-15f : (real)1e-150)
#define SQUARES_UP (sizeof(real) == 4 ? (real)0x1p100f : (real)0x1p700)
#define SQUARES_DOWN (sizeof(real) == 4 ? (real)0x1p-100f : (real)0x1p-700)

static __device__ __forceinline__ void squares_add(Squares& s, real v) {
  const real size = v < 0 ? -v : v;
  if (size > SQUARES_LARGE) {
    s.large += (v * SQUARES_DOWN) * (v * SQUARES_DOWN);
  } else if (size < SQUARES_SMALL) {
    s.small += (v * SQUARES_UP) * (v * SQUARES_UP);
  } else {
    s.middle += v * v;  // and NaN
  }
}

static __device__ __forceinline__ bool squares_finite(const Squares& s) { return langevin_finite(s.large + s.middle); }

// The square root of the three sums together; a sum that another one outweighs beyond every digit is left out.
static __device__ __forceinline__ real squares_norm(const Squares& s) {
  real sum = s.large + s.middle, unit = 1;  // as it stands where it is NaN or infinity
  if (squares_finite(s)) {
    if (s.large > 0) {
      sum = s.large + s.middle * SQUARES_DOWN * SQUARES_DOWN;
      unit = SQUARES_UP;
    } else if (s.middle > 0) {
      sum = s.middle + s.small * SQUARES_DOWN * SQUARES_DOWN;
    } else {
      sum = s.small;
      unit = SQUARES_DOWN;
    }
  }
  return sqrt(sum) * unit;
}
