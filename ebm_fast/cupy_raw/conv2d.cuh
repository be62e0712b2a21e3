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
