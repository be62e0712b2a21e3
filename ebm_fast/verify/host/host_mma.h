// The host's model of mma.cuh: the last lane to arrive multiplies the whole matrices. Sums are exact to a float's
// rounding.
#pragma once

static inline u32 ebm_tf32(float x) {
  const u32 bits = __float_as_uint(x);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
}
static inline u32 ebm_host_bf16(float x) {
  const u32 bits = __float_as_uint(x);
  if (x != x) return 0x7fff;
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}
static inline u32 ebm_bf16x2(float low, float high) { return ebm_host_bf16(low) | ebm_host_bf16(high) << 16; }

namespace ebm_host {

struct Fragments {
  float d[4];
  u32 a[4], b[2];
};

// per: numbers in a register (1 tf32, 2 bf16), so a fragment spans k = 8 per.
template <int per>
static inline double part(u32 bits, int which) {
  const u32 word = per == 1 ? bits & 0xffffe000u : (which ? bits & 0xffff0000u : bits << 16);
  return (double)__uint_as_float(word);
}

template <int per>
static void multiply(void** lanes, u32) {
  double A[16][8 * per], B[8 * per][8];
  for (int l = 0; l < 32; ++l) {
    const Fragments& f = *static_cast<Fragments*>(lanes[l]);
    const int g = l / 4, t = l % 4;
    for (int j = 0; j < per; ++j)
      for (int half = 0; half < 2; ++half) {
        const int k = per * t + j + 4 * per * half;
        A[g][k] = part<per>(f.a[2 * half], j);
        A[g + 8][k] = part<per>(f.a[2 * half + 1], j);
        B[k][g] = part<per>(f.b[half], j);
      }
  }
  for (int l = 0; l < 32; ++l) {
    Fragments& f = *static_cast<Fragments*>(lanes[l]);
    for (int i = 0; i < 4; ++i) {
      const int row = l / 4 + 8 * (i / 2), column = 2 * (l % 4) + i % 2;
      double sum = f.d[i];
      for (int k = 0; k < 8 * per; ++k) sum += A[row][k] * B[k][column];
      f.d[i] = (float)sum;
    }
  }
}

template <int per>
static inline void mma(const Place* at, const char* what, float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  Fragments mine = {{d[0], d[1], d[2], d[3]}, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  warp(at, what, EBM_ALL_LANES, &mine, multiply<per>);
  for (int i = 0; i < 4; ++i) d[i] = mine.d[i];
}

}  // namespace ebm_host

#define ebm_mma_m16n8k8_tf32(...) ebm_host::mma<1>(EBM_PLACE, "mma.m16n8k8", __VA_ARGS__)
#define ebm_mma_m16n8k16_bf16(...) ebm_host::mma<2>(EBM_PLACE, "mma.m16n8k16", __VA_ARGS__)
