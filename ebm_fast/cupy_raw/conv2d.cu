// Twin of conv2d: y = conv(x) + b, and its adjoint in x.
//
// Both are the product A B of gathered pixels A (pixels, taps x channels) and filters B (taps x channels, columns).
// A block gathers 16 terms of A and B at a time into shared memory, so that each number read from there serves 4
// products in registers; A is never stored, and what lies outside the image is a 0 that is not read. In x the pixels
// are sorted by their place modulo the stride (blockIdx.z): each class has its own taps, and no 0 between pixels is
// multiplied. With up to 4 columns no tile is worth it: there a few lanes share the sum of one pixel and add up by
// shuffles. Per output number: 2 taps x channels operations; bytes: a tile of P pixels and J columns reads
// (P + J) / (P J) numbers of A and B a product. Jets: filters stay plain, each coefficient is one more product.
// Launch: pixels along x, columns along y, classes along z (the last two strided). Deterministic: one thread, or one
// team of lanes in a fixed order, makes each sum.
#include "conv2d.cuh"

static const int DEPTH = 16;  // terms of the sum in shared memory at a time
static const int PAD = 4;     // numbers between two of their rows, against bank conflicts

JET_FN void store(const Gather& g, i64 at, Jet y) { g.out[at] = g.add ? g.out[at] + y : y; }

// Jets y[0..4) of one pixel from `column` on: 16 bytes at a time where all of the output is laid out so (`whole`).
JET_FN void store_row(const Gather& g, i64 pixel, int column, const Jet* y, bool whole) {
  const i64 at = pixel * g.columns + column;
  if (whole) {
    if (column >= g.columns) return;
    real* out = reinterpret_cast<real*>(g.out + at);
#pragma unroll
    for (int q = 0; q < JET; ++q) {
      Real4 v;
      if (g.add) v = ebm_load4(out + 4 * q);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const real mine = y[(4 * q + e) / JET].c[(4 * q + e) % JET];
        v.c[e] = g.add ? v.c[e] + mine : mine;
      }
      ebm_store4(out + 4 * q, v);
    }
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (column + j < g.columns) store(g, at + j, y[j]);
    }
  }
}

// ------------------------------------------------------------------------------------------------------------- tiles

// BM pixels x BJ columns by BM BJ / 16 threads, 4 x 4 each; BACK says which of w's axes lies together in memory.
template <int BM, int BJ, bool BACK>
JET_FN void gather_tile(const Gather& g, real* a_tile, real* b_tile, i64* src_of, i64* out_of, int* y_of, int* x_of) {
  constexpr int THREADS = BM * BJ / 16, AW = BM + PAD, BW = BJ + PAD;
  const int t = threadIdx.x, tj = t % (BJ / 4), tm = t / (BJ / 4), kk = t % DEPTH;
  const i64 m0 = blockIdx.x * (i64)BM, pixels = gather_pixels(g);
  const bool whole = g.columns % 4 == 0 && ebm_aligned16(g.out);
  if (m0 >= pixels) return;  // the whole block: its class has fewer pixels than the largest
  for (int i = t; i < BM; i += THREADS) {  // int: below BM
    const bool there = m0 + i < pixels;
    const Pixel at = pixel_at(g, there ? m0 + i : m0);
    src_of[i] = at.src;
    out_of[i] = there ? at.out : -1;
    y_of[i] = there ? at.y : -(1 << 30);  // off every image
    x_of[i] = at.x;
  }
  for (int j0 = blockIdx.y * BJ; j0 < g.columns; j0 += gridDim.y * BJ) {
    Jet acc[4][4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int column = j0 + 4 * tj + j;
      const real b = g.bias != nullptr && column < g.columns ? g.bias[column] : (real)0;
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[i][j] = jet(b);
    }
    const int depth = g.rows.taps * g.cols.taps * g.channels;
    Tap tap = {0, 0, 0};
    tap_advance(tap, kk, g.cols.taps, g.channels);
    for (int k0 = 0; k0 < depth; k0 += DEPTH) {
      __syncthreads();  // the table is written, the last tile is read
      const bool term = k0 + kk < depth;
      const int dy = g.rows.step * tap.ty, dx = g.cols.step * tap.tx;
#pragma unroll 4
      for (int i = 0; i < BM * DEPTH / THREADS; ++i) {
        const int row = t / DEPTH + i * (THREADS / DEPTH), y = y_of[row] + dy, x = x_of[row] + dx;
        Jet v = jet((real)0);
        if (term && on_image(y, g.rows.size, x, g.cols.size)) {
          v = g.src[(src_of[row] + (i64)y * g.cols.size + x) * g.channels + tap.c];
        }
#pragma unroll
        for (int o = 0; o < JET; ++o) a_tile[(o * DEPTH + kk) * AW + row] = v.c[o];
      }
      if (BACK) {
        const i64 at = filter_at(g, tap);
#pragma unroll
        for (int i = 0; i < BJ * DEPTH / THREADS; ++i) {
          const int j = t / DEPTH + i * (THREADS / DEPTH);
          b_tile[kk * BW + j] = term && j0 + j < g.columns ? g.w[at + (j0 + j) * g.w_column] : (real)0;
        }
      } else {
#pragma unroll
        for (int i = 0; i < BJ * DEPTH / THREADS; ++i) {
          const int j = t % BJ, k = t / BJ + i * (THREADS / BJ);
          const bool inside = k0 + k < depth && j0 + j < g.columns;
          b_tile[k * BW + j] = inside ? g.w[(i64)(k0 + k) * g.columns + j0 + j] : (real)0;
        }
      }
      tap_advance(tap, DEPTH, g.cols.taps, g.channels);
      __syncthreads();
#pragma unroll
      for (int k = 0; k < DEPTH; ++k) {
        real b[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) b[j] = b_tile[k * BW + 4 * tj + j];
#pragma unroll
        for (int o = 0; o < JET; ++o) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const real a = a_tile[(o * DEPTH + k) * AW + 4 * tm + i];
#pragma unroll
            for (int j = 0; j < 4; ++j) acc[i][j].c[o] += a * b[j];
          }
        }
      }
    }
    if (depth == 0) __syncthreads();  // no tap reaches this class: still, the table is written
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const i64 pixel = out_of[4 * tm + i];
      if (pixel >= 0) store_row(g, pixel, j0 + 4 * tj, acc[i], whole);
    }
  }
}

// ------------------------------------------------------------------------------------------------------------ narrow

// Up to 4 columns: `lanes` lanes (a power of 2, at most 32) share the sum of one pixel.
JET_FN void gather_narrow(const Gather& g, int lanes) {
  const int lane = threadIdx.x % lanes, teams = blockDim.x / lanes;
  const i64 pixels = gather_pixels(g);
  const int depth = g.rows.taps * g.cols.taps * g.channels;
  for (i64 m0 = blockIdx.x * (i64)teams; m0 < pixels; m0 += (i64)gridDim.x * teams) {
    const i64 m = m0 + threadIdx.x / lanes;
    const bool there = m < pixels;
    const Pixel at = pixel_at(g, there ? m : m0);
    Jet acc[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) acc[j] = jet((real)0);
    Tap tap = {0, 0, 0};
    tap_advance(tap, lane, g.cols.taps, g.channels);
    for (int k = lane; k < depth && there; k += lanes) {
      const int y = at.y + g.rows.step * tap.ty, x = at.x + g.cols.step * tap.tx;
      if (on_image(y, g.rows.size, x, g.cols.size)) {
        const Jet v = g.src[(at.src + (i64)y * g.cols.size + x) * g.channels + tap.c];
        const real* w = g.w + filter_at(g, tap);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if (j < g.columns) acc[j] = acc[j] + v * w[j * g.w_column];
        }
      }
      tap_advance(tap, lanes, g.cols.taps, g.channels);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j >= g.columns) break;
#pragma unroll
      for (int o = 0; o < JET; ++o) {
        for (int far = lanes / 2; far > 0; far /= 2) acc[j].c[o] += __shfl_xor_sync(EBM_ALL_LANES, acc[j].c[o], far);
      }
      if (lane == 0 && there) {
        store(g, at.out * g.columns + j, g.bias != nullptr ? acc[j] + g.bias[j] : acc[j]);
      }
    }
  }
}

// ----------------------------------------------------------------------------------------------------------- kernels

#define PLACES H, W, C, R, S, O, stride, P, Q, top, left
#define TILE_SHARED(BM, BJ)                              \
  EBM_SHARED(real, a_tile, JET * DEPTH * ((BM) + PAD));  \
  EBM_SHARED(real, b_tile, DEPTH * ((BJ) + PAD));        \
  EBM_SHARED(i64, src_of, BM);                           \
  EBM_SHARED(i64, out_of, BM);                           \
  EBM_SHARED(int, y_of, BM);                             \
  EBM_SHARED(int, x_of, BM)

#define FORWARD_TILE(name, BM, BJ, BLOCKS)                                         \
  extern "C" __global__ void __launch_bounds__((BM) * (BJ) / 16, BLOCKS)           \
      name(const Jet* x, const real* w, const real* b, Jet* y, int N, GEOMETRY) {  \
    TILE_SHARED(BM, BJ);                                                           \
    const Gather g = forward_gather(x, w, b, y, N, PLACES);                        \
    gather_tile<BM, BJ, false>(g, a_tile, b_tile, src_of, out_of, y_of, x_of);     \
  }

#define BACK_TILE(name, BM, BJ, BLOCKS)                                               \
  extern "C" __global__ void __launch_bounds__((BM) * (BJ) / 16, BLOCKS)              \
      name(const Jet* dy, const real* w, Jet* dx, int add, int N, GEOMETRY) {         \
    TILE_SHARED(BM, BJ);                                                              \
    for (i64 cls = blockIdx.z; cls < back_classes(H, W, stride); cls += gridDim.z) {  \
      const Gather g = back_gather(dy, w, dx, add, N, PLACES, cls);                   \
      __syncthreads(); /* the last class's table is read */                           \
      gather_tile<BM, BJ, true>(g, a_tile, b_tile, src_of, out_of, y_of, x_of);       \
    }                                                                                 \
  }

FORWARD_TILE(conv2d_forward_wide, 64, 64, sizeof(Jet) == 16 ? 1 : 2)
FORWARD_TILE(conv2d_forward_middle, 64, 32, sizeof(Jet) == 16 ? 3 : 4)
FORWARD_TILE(conv2d_forward_slim, 128, 16, sizeof(Jet) == 16 ? 3 : 4)
BACK_TILE(conv2d_backward_dx_wide, 64, 64, sizeof(Jet) == 16 ? 1 : 2)
BACK_TILE(conv2d_backward_dx_middle, 64, 32, sizeof(Jet) == 16 ? 3 : 4)
BACK_TILE(conv2d_backward_dx_slim, 128, 16, sizeof(Jet) == 16 ? 3 : 4)

extern "C" __global__ void __launch_bounds__(256)
    conv2d_forward_narrow(const Jet* x, const real* w, const real* b, Jet* y, int N, GEOMETRY, int lanes) {
  gather_narrow(forward_gather(x, w, b, y, N, PLACES), lanes);
}

extern "C" __global__ void __launch_bounds__(256)
    conv2d_backward_dx_narrow(const Jet* dy, const real* w, Jet* dx, int add, int N, GEOMETRY, int lanes) {
  for (i64 cls = blockIdx.z; cls < back_classes(H, W, stride); cls += gridDim.z) {
    gather_narrow(back_gather(dy, w, dx, add, N, PLACES, cls), lanes);
  }
}

EBM_EXPORT(conv2d_forward_wide)
EBM_EXPORT(conv2d_forward_middle)
EBM_EXPORT(conv2d_forward_slim)
EBM_EXPORT(conv2d_forward_narrow)
EBM_EXPORT(conv2d_backward_dx_wide)
EBM_EXPORT(conv2d_backward_dx_middle)
EBM_EXPORT(conv2d_backward_dx_slim)
EBM_EXPORT(conv2d_backward_dx_narrow)
