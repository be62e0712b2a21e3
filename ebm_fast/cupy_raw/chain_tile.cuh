// Where the threads of LINEAR (chain_linear.cuh) work: classes of outputs, tasks of warps, taps, rows of a thread.
// int, in all of this file: a place in the chains' shared memory, or among fewer than 2^30 packed parameters.
#pragma once
#include "chain_op.cuh"

// One axis of a class of outputs: output start + i step reads input first + i apart + j turn by tap tap0 + j tap_step.
struct ChainAxis {
  int count, start, step, first, apart, turn, tap0, tap_step, taps;
};

CHAIN_FN ChainAxis chain_axis(bool back, int size, int kernel, int stride, int before, int r0) {
  if (!back) return {size, 0, 1, -before, stride, 1, 0, 1, kernel};
  const int start = ((r0 - before) % stride + stride) % stride;
  const int count = start < size ? (size - start + stride - 1) / stride : 0;
  const int taps = r0 < kernel ? (kernel - r0 + stride - 1) / stride : 0;
  return {count, start, stride, (start + before - r0) / stride, 1, -1, r0, stride, taps};
}

enum { QUADS = 8 };  // quads of output channels of a warp, at most

// Where a lane works: which quad of output channels, which row. Lanes 2i and 2i + 1 share weights, lanes i and i + 2
// share x: half a warp then reads no more than 128 different bytes at a time, one pass through the banks. Of eight
// quads lanes i and i + 16 have q and q + 4.
CHAIN_FN int chain_quad(const ChainOp& op, int lane) {
  return op.lanes == QUADS ? lane / 2 % 4 + lane / 16 * 4 : lane / 2 % op.lanes;
}
CHAIN_FN int chain_row(const ChainOp& op, int lane) {
  return lane % 2 + (op.lanes == QUADS ? lane / 8 % 2 : lane / (2 * op.lanes)) * 2;
}

struct ChainTask {
  ChainAxis h, w;
  int row, out;  // its first row and output channel
};

// Task number `task` of an operation; false beyond the last.
CHAIN_FN bool chain_task(const ChainOp& op, int chains, int task, ChainTask& found) {
  const int rows_each = 4 * (32 / op.lanes), outs = op.padded / (4 * op.lanes), classes = op.back ? op.stride : 1;
  for (int r = 0; r < classes; ++r) {
    found.h = chain_axis(op.back, op.dst_h, op.kernel, op.stride, op.top, r);
    for (int s = 0; s < classes; ++s) {
      found.w = chain_axis(op.back, op.dst_w, op.kernel, op.stride, op.left, s);
      const int tiles = (chains * found.h.count * found.w.count + rows_each - 1) / rows_each;
      if (task < tiles * outs) {
        found.row = task % tiles * rows_each;
        found.out = task / tiles * 4 * op.lanes;
        return true;
      }
      task -= tiles * outs;
    }
  }
  return false;
}

// The taps of a task in order, and where their weights lie.
struct ChainTaps {
  const ChainOp& op;
  const ChainTask& task;
  int j, i;  // which tap along h, along w

  __device__ __forceinline__ bool left() const { return j < task.h.taps && task.w.taps > 0; }
  __device__ __forceinline__ void next() {
    if (++i == task.w.taps) i = 0, ++j;
  }
  __device__ __forceinline__ int weights() const {
    const int r = task.h.tap0 + j * task.h.tap_step, s = task.w.tap0 + i * task.w.tap_step;
    return op.w + (r * op.kernel + s) * op.C * op.padded + task.out;
  }
};

// The four rows of a thread: a chain and an input pixel each.
struct ChainRows {
  int base[4], h[4], w[4];

  __device__ __forceinline__ void find(const ChainOp& op, const ChainBlock& at, const ChainTask& task, int lane_row) {
    const int apart = 32 / op.lanes, pixels = task.h.count * task.w.count, rows = at.chains * pixels;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int row = min(task.row + k * apart + lane_row, rows - 1);  // a row too many is computed and not kept
      const int n = row / pixels, p = row % pixels / task.w.count, q = row % task.w.count;
      base[k] = n * at.stride + op.src;
      h[k] = p * task.h.apart + task.h.first;
      w[k] = q * task.w.apart + task.w.first;
    }
  }
  // The input pixel of row k under a tap.
  __device__ __forceinline__ const real* pixel(const ChainOp& op, const ChainBlock& at, const ChainTaps& tap,
                                               int k) const {
    const int y = h[k] + tap.j * tap.task.h.turn, x = w[k] + tap.i * tap.task.w.turn;
    const bool inside = y >= 0 && y < op.src_h && x >= 0 && x < op.src_w;
    return inside ? at.memory + base[k] + (y * op.src_w + x) * op.src_pitch : at.zeros;
  }
};
