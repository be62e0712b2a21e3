// The small operations between the convolutions and the energy: one thread an element of one chain.
//
//   PARTIAL    part[s, o] = sum of x[c] w[c, o] over the channels c = s, s + parts, ...: a row times a matrix, its sum
//              split over threads, because a head has a row for each chain only and one thread's sum would wait for
//              each weight in turn
//   REDUCE     y[o] = b[o] + part[0, o] + part[1, o] + ...
//   POOL       y[c] = sum over pixels of x[pixel, c] / divisor;   POOL_BACK  dx[pixel, c] = dy[c] / divisor
//   ACT        y = act(x);   ACT_BACK  x = dy act'(x), in the place of x
//   FILL       y[c] = w[c], a row of parameters: the gradient of the last layer
//
// Every sum has an order that depends on the layer alone.
// int, in all of this file: a place in the chains' shared memory, or among fewer than 2^30 packed parameters.
#pragma once
#include "chain_op.cuh"

CHAIN_FN void chain_partial(const ChainOp& op, const ChainBlock& at) {
  const int quads = op.padded / 4, each = op.parts * quads;
#pragma unroll 1
  for (int i = threadIdx.x; i < at.chains * each; i += CHAIN_THREADS) {
    const int n = i / each, part = i % each / quads, quad = i % quads;
    const real* const x = at.memory + n * at.stride + op.src;
    Real4 sum = {{0, 0, 0, 0}};
#pragma unroll 4
    for (int c = part; c < op.C; c += op.parts) {
      const Real4 w = ebm_load4(at.params + op.w + c * op.padded + 4 * quad);
      const real value = x[c];
#pragma unroll
      for (int o = 0; o < 4; ++o) sum.c[o] += value * w.c[o];
    }
    ebm_store4(at.memory + n * at.stride + op.dst + part * op.dst_pitch + 4 * quad, sum);
  }
}

CHAIN_FN void chain_reduce(const ChainOp& op, const ChainBlock& at) {
#pragma unroll 1
  for (int i = threadIdx.x; i < at.chains * op.O; i += CHAIN_THREADS) {
    const int o = i % op.O, place = i / op.O * at.stride;
    real sum = op.b >= 0 ? at.params[op.b + o] : (real)0;
#pragma unroll 4
    for (int part = 0; part < op.parts; ++part) sum += at.memory[place + op.src + part * op.src_pitch + o];
    at.memory[place + op.dst + o] = sum;
  }
}

CHAIN_FN void chain_pool(const ChainOp& op, const ChainBlock& at) {
#pragma unroll 1
  for (int i = threadIdx.x; i < at.chains * op.C; i += CHAIN_THREADS) {
    const int c = i % op.C, place = i / op.C * at.stride;
    real sum = 0;
#pragma unroll 4
    for (int p = 0; p < op.pixels; ++p) sum += at.memory[place + op.src + p * op.src_pitch + c];
    at.memory[place + op.dst + c] = sum / (real)op.divisor;
  }
}

CHAIN_FN void chain_pool_back(const ChainOp& op, const ChainBlock& at) {
#pragma unroll 1
  for (int i = threadIdx.x; i < at.chains * op.C; i += CHAIN_THREADS) {
    const int c = i % op.C, place = i / op.C * at.stride;
    const real slope = at.memory[place + op.src + c] / (real)op.divisor;
    for (int p = 0; p < op.pixels; ++p) at.memory[place + op.dst + p * op.dst_pitch + c] = slope;
  }
}

CHAIN_FN void chain_act(const ChainOp& op, const ChainBlock& at) {
#pragma unroll 1  // the activation's code is long
  for (int i = threadIdx.x; i < at.chains * op.C; i += CHAIN_THREADS) {
    const int c = i % op.C, place = i / op.C * at.stride;
    at.memory[place + op.dst + c] = activation_value(op.code, at.memory[place + op.src + c]);
  }
}

CHAIN_FN void chain_act_back(const ChainOp& op, const ChainBlock& at) {
#pragma unroll 1  // the activation's code is long
  for (int i = threadIdx.x; i < at.chains * op.C; i += CHAIN_THREADS) {
    const int c = i % op.C, place = i / op.C * at.stride;
    const real x = at.memory[place + op.src + c];
    at.memory[place + op.src + c] = at.memory[place + op.dst + c] * activation_slope(op.code, x);
  }
}

CHAIN_FN void chain_fill(const ChainOp& op, const ChainBlock& at) {
#pragma unroll 1
  for (int i = threadIdx.x; i < at.chains * op.C; i += CHAIN_THREADS) {
    at.memory[i / op.C * at.stride + op.dst + i % op.C] = at.params[op.w + i % op.C];
  }
}
