// Twin of ebm_ref.noise: words, uniforms and normals by address.
//
// One thread makes one Philox block, four numbers of one chain: about 80 integer operations, for normals 2 log, sqrt
// and sincospi besides. Bytes: 4 (or 8) written per number, none read.
// Launch: threads x over blocks of four, threads y over chains, blocks likewise (both grid-stride). Deterministic.
#include "philox.cuh"

// out[n, d] = word d mod 4 of philox((d / 4, chains[n], step, stream), (k0, k1)).   out: (N, D)
extern "C" __global__ void noise_bits(u32* out, const u32* chains, i64 N, i64 D, u32 k0, u32 k1, u32 step, u32 stream) {
  const bool vector = D % 4 == 0 && ebm_aligned16(out);
  EACH_QUAD(n, q, N, D) {
    quad_store(out + n * D, q, D, vector, philox((u32)q, chains[n], step, stream, k0, k1));
  }
}

// out[n, d] = bits[n, d] 2^-32 + 2^-33.   out: (N, D)
extern "C" __global__ void noise_uniform(real* out, const u32* chains, i64 N, i64 D, u32 k0, u32 k1, u32 step,
                                         u32 stream) {
  const bool vector = D % 4 == 0 && ebm_aligned16(out);
  EACH_QUAD(n, q, N, D) {
    const Word4 r = philox((u32)q, chains[n], step, stream, k0, k1);
    Real4 u;
#pragma unroll
    for (int j = 0; j < 4; ++j) u.c[j] = philox_unit(r.c[j]);
    quad_store(out + n * D, q, D, vector, u);
  }
}

// out[n, d] = normal d of chains[n].   out: (N, D)
extern "C" __global__ void noise_normal(real* out, const u32* chains, i64 N, i64 D, u32 k0, u32 k1, u32 step,
                                        u32 stream) {
  const bool vector = D % 4 == 0 && ebm_aligned16(out);
  EACH_QUAD(n, q, N, D) {
    quad_store(out + n * D, q, D, vector, philox_normals(philox((u32)q, chains[n], step, stream, k0, k1)));
  }
}

// out[i] = philox(counter[i], key).   counter, out: (size, 4), key: (2,)
extern "C" __global__ void noise_philox(u32* out, const u32* counter, const u32* key, i64 size) {
  const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= size) return;
  const Word4 at = quad_load(counter, i, 4 * size, ebm_aligned16(counter));
  quad_store(out, i, 4 * size, ebm_aligned16(out), philox(at.c[0], at.c[1], at.c[2], at.c[3], key[0], key[1]));
}

// out[i] = (bits[i] n) >> 32.   bits, out: (size,)
extern "C" __global__ void noise_index(i64* out, const u32* bits, i64 size, u64 n) {
  const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < size) out[i] = philox_index(bits[i], n);
}

// keys[i] = (words[i], i): no two are equal, so any sort of them is the stable sort of the words.
extern "C" __global__ void noise_keys(u64* keys, const u32* words, i64 size) {
  const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < size) keys[i] = (u64)words[i] << 32 | (u64)i;
}

// out[i] = the place in keys[i].
extern "C" __global__ void noise_places(i64* out, const u64* keys, i64 size) {
  const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < size) out[i] = (i64)(keys[i] & 0xffffffffu);
}

EBM_EXPORT(noise_bits)
EBM_EXPORT(noise_uniform)
EBM_EXPORT(noise_normal)
EBM_EXPORT(noise_philox)
EBM_EXPORT(noise_index)
EBM_EXPORT(noise_keys)
EBM_EXPORT(noise_places)
