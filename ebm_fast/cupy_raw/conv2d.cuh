// Where a convolution reads and writes, along one axis and for one pixel. Shared by conv2d.cu and conv2d_dw.cu.
//
// Forwards and in x the sums have one form: output pixel u of a class gathers, over taps t, the source pixel
// mul u + off + step t under the filter tap f0 + fstep t:
//   forwards     one class;     source u stride - top + t,   filter t,              output u
//   in x         class h0:      source base + u - t,         filter a + stride t,   output h0 + stride u
//                a = (h0 + top) mod stride, base = (h0 + top) / stride: the taps that reach pixel h0 + stride u
#pragma once
#include "jet.cuh"

#define GEOMETRY int H, int W, int C, int R, int S, int O, int stride, int P, int Q, int top, int left

struct Axis {
  int pixels, taps;              // u < pixels, t < taps
  int mul, off, step, size;      // source pixel mul u + off + step t, on the image where 0 <= it < size
  int f0, fstep;                 // filter tap f0 + fstep t
  int out0, out_step, out_size;  // output pixel out0 + out_step u of out_size
};

JET_FN Axis axis_forward(int size, int taps, int stride, int pixels, int before) {
  return {pixels, taps, stride, -before, 1, size, 0, 1, 0, 1, pixels};
}

JET_FN Axis axis_back(int size, int taps, int stride, int pixels, int before, int h0) {
  const int a = (h0 + before) % stride, base = (h0 + before) / stride;
  const int reached = a < taps ? (taps - a - 1) / stride + 1 : 0;
  return {(size - h0 - 1) / stride + 1, reached, 1, base, -1, pixels, a, stride, h0, stride, size};
}

// A place in the sum over (ty, tx, c), c fastest: moved on, never divided.
struct Tap {
  int ty, tx, c;
};

JET_FN void tap_advance(Tap& tap, int by, int taps_x, int channels) {
  tap.c += by;
  while (tap.c >= channels) {
    tap.c -= channels;
    if (++tap.tx == taps_x) {
      tap.tx = 0;
      ++tap.ty;
    }
  }
}

JET_FN bool on_image(int y, int height, int x, int width) {
  return (u32)y < (u32)height && (u32)x < (u32)width;
}

// One convolution forwards, or one class of pixels of its adjoint in x.
struct Gather {
  const Jet* src;   // (N, rows.size, cols.size, channels)
  const real* w;    // (R, S, C, O)
  const real* bias; // (columns,) or null
  Jet* out;         // (N, rows.out_size, cols.out_size, columns)
  int N, channels, columns, S;
  i64 w_tap, w_channel, w_column;  // how far apart w's taps, channels and columns lie
  Axis rows, cols;
  bool add;
};

JET_FN i64 gather_pixels(const Gather& g) { return (i64)g.N * g.rows.pixels * g.cols.pixels; }

JET_FN i64 filter_at(const Gather& g, const Tap& tap) {
  // int: places in the filters, which are fewer than 2^30 numbers
  const int r = g.rows.f0 + g.rows.fstep * tap.ty, s = g.cols.f0 + g.cols.fstep * tap.tx;
  return ((i64)r * g.S + s) * g.w_tap + tap.c * g.w_channel;
}

struct Pixel {
  i64 src, out;  // the sample's first source pixel, the output pixel
  int y, x;      // source pixel under tap 0
};

JET_FN Pixel pixel_at(const Gather& g, i64 m) {
  // int: below pixels
  const int v = (int)(m % g.cols.pixels), u = (int)(m / g.cols.pixels % g.rows.pixels);
  const i64 n = m / g.cols.pixels / g.rows.pixels;
  const i64 row = n * g.rows.out_size + g.rows.out0 + (i64)g.rows.out_step * u;
  return {n * g.rows.size * g.cols.size, row * g.cols.out_size + g.cols.out0 + (i64)g.cols.out_step * v,
          // int: on the image, or a filter away from it
          g.rows.mul * u + g.rows.off, g.cols.mul * v + g.cols.off};
}

JET_FN Gather forward_gather(const Jet* x, const real* w, const real* b, Jet* y, int N, GEOMETRY) {
  return {x, w, b, y, N, C, O, S, (i64)C * O, O, 1,
          axis_forward(H, R, stride, P, top), axis_forward(W, S, stride, Q, left), false};
}

JET_FN Gather back_gather(const Jet* dy, const real* w, Jet* dx, int add, int N, GEOMETRY, i64 cls) {
  const int classes_x = stride < W ? stride : W;
  return {dy, w, nullptr, dx, N, O, C, S, (i64)C * O, 1, O,
          // int: a class is a row below H and a column below W
          axis_back(H, R, stride, P, top, (int)(cls / classes_x)),
          axis_back(W, S, stride, Q, left, (int)(cls % classes_x)), add != 0};
}

// int: each of the two factors, of which a class is a pair
JET_FN i64 back_classes(int H, int W, int stride) { return (i64)(stride < H ? stride : H) * (stride < W ? stride : W); }
