// Twin of conv2d_backward's dw and db: the first of two passes (the second is tree.cu).
//
//   part[chunk, (r, s, c), o] = sum over the chunk's 8 samples, p, q of
//                               x[n, p stride + r - top, q stride + s - left, c] dy[n, p, q, o]
//   part[chunk, R S C, o]     = sum over the same of dy[n, p, q, o]
//
// A block owns one chunk and a tile of filter entries; it walks the chunk's pixels 16 at a time, x's row gathered and
// dy's row copied to shared memory. A chunk is 8 samples on any card and with any grid, and its pixels are added in
// order, so the partial sums, and with the tree all of dw, are the same to the bit. Of jets, `component` 0 is the sum
// of x_0 dy_0 and 1 that of x_0 dy_1 + x_1 dy_0. Per filter entry and pixel: 2 operations a product; bytes: x once for
// each tile of columns and tap, dy once for each tile of rows. Launch: filter rows along x, columns along y, chunks
// along z (the last two strided). No atomics.
#include "conv2d.cuh"

static const int STEP = 16;   // pixels in shared memory at a time
static const int CHUNK = 8;   // samples of one partial sum
static const int PAD = 4;

// part[column .. column + 4) of O: 16 bytes at a time where all rows are laid out so (`whole`).
JET_FN void store_row(real* part, int column, int O, const real* v, bool whole) {
  if (whole) {
    const Real4 all = {{v[0], v[1], v[2], v[3]}};
    if (column < O) ebm_store4(part + column, all);
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (column + j < O) part[column + j] = v[j];
    }
  }
}

// BM filter rows x BJ columns by BM BJ / 16 threads, 4 x 4 each.
template <int BM, int BJ>
JET_FN void filter_tile(const Jet* x, const Jet* dy, real* parts, int N, GEOMETRY, int component, i64 chunk0,
                        int chunks, real* a_tile, real* b_tile, i64* pixel_of, int* y_of, int* x_of) {
  constexpr int THREADS = BM * BJ / 16, AW = BM + PAD, BW = BJ + PAD;
  constexpr int ACROSS = BM < THREADS ? BM : THREADS, DOWN = BM / ACROSS;  // a thread gathers DOWN rows of the tile
  const int t = threadIdx.x, tj = t % (BJ / 4), tm = t / (BJ / 4);
  // int: places in the filters, which are fewer than 2^30 numbers, or a tile beyond them
  const int depth = R * S * C, k0 = blockIdx.x * BM;
  const i64 size = (i64)(depth + 1) * O;
  const bool whole = O % 4 == 0 && ebm_aligned16(parts);
  int r_of[DOWN], s_of[DOWN], c_of[DOWN];
#pragma unroll
  for (int d = 0; d < DOWN; ++d) {
    const int k = k0 + t % ACROSS + d * ACROSS;
    r_of[d] = k / C / S;
    s_of[d] = k / C % S;
    c_of[d] = k % C;
  }
  for (int z = blockIdx.z; z < chunks; z += gridDim.z) {
    const i64 n0 = (chunk0 + z) * CHUNK, left_over = N - n0;
    const i64 pixels = (left_over < CHUNK ? left_over : CHUNK) * P * Q;
    for (int j0 = blockIdx.y * BJ; j0 < O; j0 += gridDim.y * BJ) {
      real acc[4][4] = {}, bias[4] = {};
      int n = 0, p = 0, q = t;  // of the pixel that this thread writes into the table, for t < STEP
      for (i64 i0 = 0; i0 < pixels; i0 += STEP) {
        if (t < STEP) {
          while (q >= Q) {
            q -= Q;
            if (++p == P) {
              p = 0;
              ++n;
            }
          }
          pixel_of[t] = (n0 + n) * H * W;
          y_of[t] = p * stride - top;   // int: on the image, or a filter away from it
          x_of[t] = q * stride - left;  // int: as above
          q += STEP;
        }
        __syncthreads();  // the table is written, the last tile is read
#pragma unroll 4
        for (int i = 0; i < STEP * ACROSS / THREADS; ++i) {
          const int pixel = t / ACROSS + i * (THREADS / ACROSS);
          const bool there = i0 + pixel < pixels;
#pragma unroll
          for (int d = 0; d < DOWN; ++d) {
            const int py = y_of[pixel] + r_of[d], px = x_of[pixel] + s_of[d];
            Jet v = jet((real)0);
            if (there && k0 + t % ACROSS + d * ACROSS < depth && on_image(py, H, px, W)) {
              v = x[(pixel_of[pixel] + (i64)py * W + px) * C + c_of[d]];
            }
#pragma unroll
            for (int o = 0; o < JET; ++o) a_tile[(o * STEP + pixel) * AW + t % ACROSS + d * ACROSS] = v.c[o];
          }
        }
#pragma unroll 4
        for (int i = t; i < STEP * BJ; i += THREADS) {
          const int j = j0 + i % BJ, pixel = i / BJ;
          Jet v = jet((real)0);
          if (j < O && i0 + pixel < pixels) v = dy[(n0 * P * Q + i0 + pixel) * O + j];
#pragma unroll
          for (int o = 0; o < JET; ++o) b_tile[(o * STEP + pixel) * BW + i % BJ] = v.c[o];
        }
        __syncthreads();
#pragma unroll
        for (int o = 0; o < JET; ++o) {  // x_o dy_(component - o)
          if (o > component) break;
          const real* as = a_tile + o * STEP * AW + 4 * tm;
          const real* bs = b_tile + (component - o) * STEP * BW + 4 * tj;
#pragma unroll
          for (int k = 0; k < STEP; ++k) {
            real b[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) b[j] = bs[k * BW + j];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              const real a = as[k * AW + i];
#pragma unroll
              for (int j = 0; j < 4; ++j) acc[i][j] += a * b[j];
            }
            if (o == 0 && k0 == 0 && tm == 0) {
#pragma unroll
              for (int j = 0; j < 4; ++j) bias[j] += b[j];
            }
          }
        }
      }
      const int column = j0 + 4 * tj;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int k = k0 + 4 * tm + i;
        if (k < depth) store_row(parts + z * size + (i64)k * O, column, O, acc[i], whole);
      }
      if (k0 == 0 && tm == 0) store_row(parts + z * size + (i64)depth * O, column, O, bias, whole);
    }
  }
}

static const int NUMBERS = sizeof(real) == 8 ? 6144 : 8192;  // filter entries in one multiprocessor: bounds registers

#define FILTER_TILE(name, BM, BJ)                                                                               \
  extern "C" __global__ void __launch_bounds__((BM) * (BJ) / 16, NUMBERS / ((BM) * (BJ)))                       \
      name(const Jet* x, const Jet* dy, real* parts, int N, GEOMETRY, int component, i64 chunk0, int chunks) {  \
    EBM_SHARED(real, a_tile, JET * STEP * ((BM) + PAD));                                                        \
    EBM_SHARED(real, b_tile, JET * STEP * ((BJ) + PAD));                                                        \
    EBM_SHARED(i64, pixel_of, STEP);                                                                            \
    EBM_SHARED(int, y_of, STEP);                                                                                \
    EBM_SHARED(int, x_of, STEP);                                                                                \
    filter_tile<BM, BJ>(x, dy, parts, N, H, W, C, R, S, O, stride, P, Q, top, left, component, chunk0, chunks,  \
                        a_tile, b_tile, pixel_of, y_of, x_of);                                                  \
  }

FILTER_TILE(conv2d_backward_dw_wide, 64, 64)
FILTER_TILE(conv2d_backward_dw_middle, 64, 32)
FILTER_TILE(conv2d_backward_dw_short, 16, 64)
FILTER_TILE(conv2d_backward_dw_thin, 128, 4)

EBM_EXPORT(conv2d_backward_dw_wide)
EBM_EXPORT(conv2d_backward_dw_middle)
EBM_EXPORT(conv2d_backward_dw_short)
EBM_EXPORT(conv2d_backward_dw_thin)
