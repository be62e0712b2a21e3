// Philox4x32-10 and the numbers made from its words. Twin of ebm_ref.noise, one counter at a time.
#pragma once
#include "quad.cuh"

// Ten rounds of c <- (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)), k <- k + (W0, W1).
static __device__ __forceinline__ Word4 philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const u32 hi0 = __umulhi(0xD2511F53u, c0), lo0 = 0xD2511F53u * c0;
    const u32 hi1 = __umulhi(0xCD9E8D57u, c2), lo1 = 0xCD9E8D57u * c2;
    c0 = hi1 ^ c1 ^ k0;
    c1 = lo1;
    c2 = hi0 ^ c3 ^ k1;
    c3 = lo0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// u = r 2^-32 + 2^-33: never 0, so that log u is finite; in float it rounds and can be 1.
static __device__ __forceinline__ real philox_unit(u32 r) {
  return (real)r * (real)2.3283064365386963e-10 + (real)1.1641532182693481e-10;
}

// R cos(pi b), R sin(pi b) with R = sqrt(-2 log u), b = r' 2^-31, from the words (r, r') = (0, 1), then (2, 3).
static __device__ __forceinline__ Real4 philox_normals(Word4 r) {
  Real4 n;
#pragma unroll
  for (int j = 0; j < 4; j += 2) {
    const real radius = sqrt((real)-2 * log(philox_unit(r.c[j])));
    real sine, cosine;
    sincospi((real)r.c[j + 1] * (real)4.656612873077393e-10, &sine, &cosine);
    n.c[j] = radius * cosine;
    n.c[j + 1] = radius * sine;
  }
  return n;
}

// (bits n) >> 32, in [0, n).
// int: n is at most 2^32
static __device__ __forceinline__ i64 philox_index(u32 bits, u64 n) { return (i64)((u64)bits * n >> 32); }
