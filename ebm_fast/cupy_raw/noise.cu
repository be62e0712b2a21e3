// Twin of ebm_ref.noise: words, uniforms and normals by address.
//
// One thread makes one Philox block, four numbers of one chain. Bytes: 4 (or 8) written per number, none read.
// Launch: threads over blocks of four along x, chains along y (grid-stride). Deterministic.
#include "philox.cuh"

// out[n, d] = word d mod 4 of philox((d / 4, chains[n], step, stream), (k0, k1)).   out: (N, D)
extern "C" __global__ void noise_bits(u32* out, const u32* chains, int N, i64 D, u32 k0, u32 k1, u32 step, u32 stream) {
  const i64 quads = (D + 3) / 4;
  for (int n = blockIdx.y; n < N; n += gridDim.y) {
    for (i64 q = blockIdx.x * (i64)blockDim.x + threadIdx.x; q < quads; q += (i64)gridDim.x * blockDim.x) {
      const PhiloxWords r = philox((u32)q, chains[n], step, stream, k0, k1);
      for (int j = 0; j < 4 && 4 * q + j < D; ++j) out[n * D + 4 * q + j] = r.w[j];
    }
  }
}

EBM_EXPORT(noise_bits)
