// LINEAR: a convolution, or its adjoint in the input, on values in shared memory.
//
//   y[n, p, :] (+)= b + sum over taps and channels c of x[n, pixel of (p, tap), c] w[tap, c, :]
//
// The adjoint is the same sum with the taps turned round. Its outputs h are split by h + top mod stride, the class:
// in class r0 the taps are r0, r0 + stride, ..., and no product with a zero between the strides is ever made.
//
// Tile of a warp: 16 rows (pixels of any chain) by 32 output channels; where there are fewer channels, more rows. A
// step is eight input channels of one tap: w of the step comes from global memory (the second-level cache holds it)
// through a ring of STAGES steps that each warp fills for itself with cp.async, STAGES - 1 steps ahead, in place of
// registers or a barrier of the block; warps that take the same weights for other rows run close together and find
// them in the first-level cache. x comes from shared memory, where a pixel is an odd number of quads long, so that
// the rows of a warp lie in different banks. Of 32 output channels a thread has 4 rows by 8 channels, 32 sums in
// registers, over every other quad of input channels: 12 reads of 16 bytes for 128 multiply-adds; its partner has the
// other quads, and they exchange at the end. With fewer channels it has 4 rows by 4 over all input channels: 16
// reads. Which of the two is bound by reads and not by multiply-adds is for a card to say. Input channels beyond a
// multiple of four (images of 1 or 3) come last, one by one, the weights of up to 24 of them at once. The order of a
// sum depends on the layer alone.
//
// Tasks are dealt to warps there and back again, classes with most taps first, so that a warp with long tasks gets
// short ones too.
// int, in all of this file: a place in the chains' shared memory, or among fewer than 2^30 packed parameters.
#pragma once
#include "chain_tile.cuh"

enum { STEP = 8, STAGES = 3, RING = STEP * 32 };  // channels of a step, steps on their way, numbers of a step

// The weights on their way to a warp. A lane copies every 32nd piece of 16 bytes of a step: STEP channels, or what is
// left of the tap's whole quads, by the channels of the warp.
struct ChainRing {
  const ChainOp& op;
  const ChainBlock& at;
  ChainTaps ahead;     // the tap of the next step to be fetched
  const real* source;  // the lane's first piece of that step
  int left;            // channels of that tap which are still to be fetched
  int row, row_apart, from, apart, advance, fill, stage;

  __device__ __forceinline__ ChainRing(const ChainOp& op, const ChainBlock& at, const ChainTask& task, int lane)
      : op(op), at(at), ahead{op, task, 0, 0}, left(op.C / 4 * 4), fill(0), stage(0) {
    const int each = 16 / sizeof(real), per_row = 4 * op.lanes / each;
    row = lane / per_row;  // channel of the lane's first piece; the next piece lies row_apart channels on
    row_apart = 32 / per_row;
    from = row * op.padded + lane % per_row * each;
    apart = row_apart * op.padded;
    advance = STEP * op.padded;
    source = at.params + ahead.weights() + from;
    __syncwarp(EBM_ALL_LANES);  // every lane has read the last task's weights
#pragma unroll
    for (int i = 0; i < STAGES - 1; ++i) fetch();
  }
  // Begin to copy one more step, if there is one.
  __device__ __forceinline__ void fetch() {
    if (ahead.left()) {
      const int each = 16 / sizeof(real), lane = threadIdx.x % 32;
      real* const to = at.ring + fill * RING + lane * each;
#pragma unroll
      for (int i = 0; i < STEP * (int)sizeof(real) / 16; ++i) {
        if (row + i * row_apart < min((int)STEP, left)) ebm_cp_async16_l1(to + i * 32 * each, source + i * apart);
      }
      fill = fill == STAGES - 1 ? 0 : fill + 1;
      left -= STEP;
      source += advance;
      if (left <= 0) {
        left = op.C / 4 * 4;
        ahead.next();
        source = at.params + ahead.weights() + from;
      }
    }
    ebm_cp_async_commit();
  }
  // The weights of the next step, and a fetch of another one.
  __device__ __forceinline__ const real* next() {
    ebm_cp_async_wait<STAGES - 2>();
    __syncwarp(EBM_ALL_LANES);  // the step is there for all lanes, and all have read the stage that is filled now
    fetch();
    const real* const step = at.ring + stage * RING;
    stage = stage == STAGES - 1 ? 0 : stage + 1;
    return step;
  }
};

// sums += x w for the next `quads` quads of channels.
template <int quads>
CHAIN_FN void chain_step(const real* weights, int width, const real* (&x)[4], real (&sums)[4][4]) {
#pragma unroll
  for (int quad = 0; quad < quads; ++quad) {
    Real4 w[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) w[c] = ebm_load4(weights + (4 * quad + c) * width);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const Real4 value = ebm_load4(x[k] + 4 * quad);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
#pragma unroll
        for (int o = 0; o < 4; ++o) sums[k][o] += value.c[c] * w[c].c[o];
      }
    }
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) x[k] += 4 * quads;
}

// sums += x w over whole quads of channels, through the ring.
CHAIN_FN void chain_quads(const ChainOp& op, const ChainBlock& at, const ChainTask& task, const ChainRows& rows,
                          int lane, real (&sums)[4][4]) {
  const int steps = op.C / STEP, width = 4 * op.lanes, column = chain_quad(op, lane) * 4;
  if (op.C < 4) return;
  ChainRing ring(op, at, task, lane);
  for (ChainTaps tap = {op, task, 0, 0}; tap.left(); tap.next()) {
    const real* x[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) x[k] = rows.pixel(op, at, tap, k);
#pragma unroll 1
    for (int step = 0; step < steps; ++step) chain_step<STEP / 4>(ring.next() + column, width, x, sums);
    if (op.C % STEP >= 4) chain_step<1>(ring.next() + column, width, x, sums);
  }
}

// The same where a warp has all eight quads of output channels. A lane takes two of them, its own and its partner's,
// and half of the channels of a step: 12 reads of 16 bytes for 128 multiply-adds in place of 16. At the end the two
// lanes exchange: each keeps its own quad, the sum over both halves of the channels.
CHAIN_FN void chain_pairs(const ChainOp& op, const ChainBlock& at, const ChainTask& task, const ChainRows& rows,
                          int lane, real (&sums)[4][4]) {
  const int steps = op.C / STEP, quad = chain_quad(op, lane), half = quad / 4 * 4, width = 4 * QUADS;
  const int own = half * width + 4 * quad, partner = half * width + 4 * (quad ^ 4);
  if (op.C < 4) return;
  real others[4][4] = {};
  ChainRing ring(op, at, task, lane);
  for (ChainTaps tap = {op, task, 0, 0}; tap.left(); tap.next()) {
    const real* x[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) x[k] = rows.pixel(op, at, tap, k) + half;
    const int last = steps + (op.C % STEP >= 4);
#pragma unroll 1
    for (int step = 0; step < last; ++step) {
      const real* const weights = ring.next();
      if (step < steps || half == 0) {  // the last step may have channels for the first half only
        Real4 value[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) value[k] = ebm_load4(x[k] + STEP * step);
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const Real4 w = ebm_load4(weights + own + c * width), v = ebm_load4(weights + partner + c * width);
#pragma unroll
          for (int k = 0; k < 4; ++k) {
#pragma unroll
            for (int o = 0; o < 4; ++o) {
              sums[k][o] += value[k].c[c] * w.c[o];
              others[k][o] += value[k].c[c] * v.c[o];
            }
          }
        }
      }
    }
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int o = 0; o < 4; ++o) sums[k][o] += __shfl_xor_sync(EBM_ALL_LANES, others[k][o], 16);
  }
}

// sums += x w over the channels that no whole quad holds, of all taps: as many rows of weights at once as the ring
// holds.
CHAIN_FN void chain_rest(const ChainOp& op, const ChainBlock& at, const ChainTask& task, const ChainRows& rows,
                         int lane, real (&sums)[4][4]) {
  const int first = op.C / 4 * 4, rest = op.C - first, total = task.h.taps * task.w.taps * rest;
  if (total == 0) return;
  const int each = 16 / sizeof(real), width = 4 * op.lanes, per_row = width / each, column = chain_quad(op, lane) * 4;
  ChainTaps tap = {op, task, 0, 0};
  const real* x[4] = {at.zeros, at.zeros, at.zeros, at.zeros};
  int c = first;
  for (int begin = 0; begin < total; begin += STAGES * STEP) {
    const int count = min((int)(STAGES * STEP), total - begin);
    __syncwarp(EBM_ALL_LANES);  // every lane has read the rows before
    for (int piece = lane; piece < count * per_row; piece += 32) {
      const int number = begin + piece / per_row, place = number / rest;
      const ChainTaps its = {op, task, place / task.w.taps, place % task.w.taps};
      const int weights = its.weights() + (first + number % rest) * op.padded;
      ebm_cp_async16_l1(at.ring + piece * each, at.params + weights + piece % per_row * each);
    }
    ebm_cp_async_commit();
    ebm_cp_async_wait<0>();
    __syncwarp(EBM_ALL_LANES);
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      if (c == first) {
#pragma unroll
        for (int k = 0; k < 4; ++k) x[k] = rows.pixel(op, at, tap, k) + first;
        tap.next();
      }
      const Real4 w = ebm_load4(at.ring + i * width + column);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const real value = x[k][c - first];
#pragma unroll
        for (int o = 0; o < 4; ++o) sums[k][o] += value * w.c[o];
      }
      if (++c == op.C) c = first;
    }
  }
}

// y (+)= b + sums, for the rows and channels that exist.
CHAIN_FN void chain_keep(const ChainOp& op, const ChainBlock& at, const ChainTask& task, int lane,
                         const real (&sums)[4][4]) {
  const int apart = 32 / op.lanes, pixels = task.h.count * task.w.count, rows = at.chains * pixels;
  const int out = task.out + chain_quad(op, lane) * 4;
  Real4 b = {{0, 0, 0, 0}};
  if (op.b >= 0) b = ebm_load4(at.params + op.b + out);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int row = task.row + k * apart + chain_row(op, lane);
    if (row >= rows || out >= op.O) continue;
    const int n = row / pixels, p = row % pixels / task.w.count, q = row % task.w.count;
    const int pixel = (task.h.start + p * task.h.step) * op.dst_w + task.w.start + q * task.w.step;
    real* const y = at.memory + n * at.stride + op.dst + pixel * op.dst_pitch + out;
    if (out + 4 <= op.O) {
      Real4 v = {{0, 0, 0, 0}};
      if (op.add) v = ebm_load4(y);
#pragma unroll
      for (int o = 0; o < 4; ++o) v.c[o] += b.c[o] + sums[k][o];
      ebm_store4(y, v);
    } else {
#pragma unroll
      for (int o = 0; o < 4; ++o) {
        if (out + o < op.O) y[o] = (op.add ? y[o] : (real)0) + (b.c[o] + sums[k][o]);
      }
    }
  }
}

CHAIN_FN void chain_linear(const ChainOp& op, const ChainBlock& at) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  ChainTask task;
  for (int round = 0;; ++round) {
    const int turn = round % 2 == 0 ? warp : CHAIN_WARPS - 1 - warp;
    if (!chain_task(op, at.chains, round * CHAIN_WARPS + turn, task)) break;
    ChainRows rows;
    rows.find(op, at, task, chain_row(op, lane));
    real sums[4][4] = {};
    if (op.lanes == QUADS) {
      chain_pairs(op, at, task, rows, lane, sums);
    } else {
      chain_quads(op, at, task, rows, lane, sums);
    }
    chain_rest(op, at, task, rows, lane, sums);
    chain_keep(op, at, task, lane, sums);
  }
}
