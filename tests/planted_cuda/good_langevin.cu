// Control: one Langevin step with noise by address, four numbers a thread, 16 bytes at a time where they are aligned.
// Bytes: 3 reals per number. Launch: threads over quads along x, chains along y. Deterministic.
#include "philox.cuh"

// y[n, d] = x - eta g + sigma xi, xi by Box-Muller from the words (0, 1), (2, 3) of each block.   x g y: (N, D)
extern "C" __global__ void good_langevin(real* y, const real* x, const real* g, const u32* chains, int N, int D,
                                         real eta, real sigma, u32 k0, u32 k1, u32 step, u32 stream) {
  const int n = blockIdx.y, q = blockIdx.x * blockDim.x + threadIdx.x;
  if (4 * q >= D) return;
  const Word4 r = philox((u32)q, chains[n], step, stream, k0, k1);
  real xi[4];
#pragma unroll
  for (int j = 0; j < 4; j += 2) {
    const real u = (real)r.c[j] * (real)2.3283064365386963e-10 + (real)1.1641532182693481e-10;
    const real radius = sqrt((real)-2 * log(u));
    real s, c;
    sincospi((real)r.c[j + 1] * (real)4.656612873077393e-10, &s, &c);
    xi[j] = radius * c;
    xi[j + 1] = radius * s;
  }
  const i64 at = n * (i64)D + 4 * q;
  if (4 * q + 3 < D && ebm_aligned16(x + at) && ebm_aligned16(g + at) && ebm_aligned16(y + at)) {
    Real4 v = ebm_load4(x + at);
    const Real4 slope = ebm_load4(g + at);
#pragma unroll
    for (int j = 0; j < 4; ++j) v.c[j] += sigma * xi[j] - eta * slope.c[j];
    ebm_store4(y + at, v);
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j)
    if (4 * q + j < D) y[at + j] = x[at + j] - eta * g[at + j] + sigma * xi[j];
}

EBM_EXPORT(good_langevin)
