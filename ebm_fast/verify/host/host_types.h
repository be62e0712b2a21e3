// CUDA's vector types.
#pragma once

#define EBM_VECTOR(type, name)                                                            \
  struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                \
  struct name##3 { type x, y, z; };                                                       \
  struct alignas(sizeof(type) == 8 ? 16 : 4 * sizeof(type)) name##4 { type x, y, z, w; }; \
  static inline name##2 make_##name##2(type x, type y) { return {x, y}; }                 \
  static inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }      \
  static inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

EBM_VECTOR(float, float)
EBM_VECTOR(double, double)
EBM_VECTOR(int, int)
struct alignas(8) uint2 {
  unsigned int x, y;
};
struct alignas(16) uint4 {
  unsigned int x, y, z, w;
};
static inline uint2 make_uint2(unsigned int x, unsigned int y) { return {x, y}; }
static inline uint3 make_uint3(unsigned int x, unsigned int y, unsigned int z) { return {x, y, z}; }
static inline uint4 make_uint4(unsigned int x, unsigned int y, unsigned int z, unsigned int w) { return {x, y, z, w}; }
#undef EBM_VECTOR
