// NORM and NORM_BACK: group_norm with its activation, on values in shared memory, and the way back.
//
//   NORM        x_hat = (y - mean) r in the place of y,   a = act(gamma x_hat + beta) [+ add]
//   NORM_BACK   e = da act'(gamma x_hat + beta) gamma,    dy = r (e - mean(e) - x_hat mean(e x_hat)), in y's place
//
// A warp takes one group of one chain, or, where groups are narrower than its lanes along channels, as many whole
// groups as those lanes hold. lanes of them lie along channels and the other 32 / lanes along pixels, which for a
// value with an odd number of quads a pixel puts them in 32 different banks. The sums of a group are made by shuffles
// in a fixed order that depends on pixels, channels and groups alone. The variance comes from a second pass over y -
// mean. Elements: y is read three times and written once, and backwards x_hat and da are read twice; act and act' are
// taken once each (twice where da must be kept for the skip).
// int, in all of this file: a place in the chains' shared memory, or among fewer than 2^30 packed parameters.
#pragma once
#include "chain_op.cuh"

#define CHAIN_EPS ((real)1e-5)  // of the oracle's norms

// The part of a value that one warp normalises: channels first <= c < end of one chain.
struct ChainSpan {
  int first, end, lane_c, lane_p, apart_p, place;  // place: of the chain in memory
};

CHAIN_FN int chain_spans(const ChainOp& op, int& width) {
  width = op.parts < op.lanes ? op.lanes : op.C / op.groups;  // parts: lanes along channels that share a group
  return (op.C + width - 1) / width;
}

CHAIN_FN ChainSpan chain_span(const ChainOp& op, const ChainBlock& at, int task, int spans, int width) {
  const int lane = threadIdx.x % 32, first = task % spans * width;
  return {first, min(first + width, op.C), first + lane % op.lanes, lane / op.lanes, 32 / op.lanes,
          task / spans * at.stride};
}

// v summed over the group of the lane.
CHAIN_FN real chain_group_sum(const ChainOp& op, real v) {
  return chain_lanes_sum(chain_lanes_sum(v, op.lanes, 32), 1, op.parts);
}

CHAIN_FN void chain_norm(const ChainOp& op, const ChainBlock& at) {
  int width;
  const int spans = chain_spans(op, width), per_group = op.C / op.groups;
  const real count = (real)(op.pixels * per_group);
  for (int task = threadIdx.x / 32; task < at.chains * spans; task += CHAIN_WARPS) {
    const ChainSpan span = chain_span(op, at, task, spans, width);
    real* const y = at.memory + span.place + op.src;
    real sum = 0, square = 0;
    for (int c = span.lane_c; c < span.end; c += op.lanes) {
#pragma unroll 4
      for (int p = span.lane_p; p < op.pixels; p += span.apart_p) sum += y[p * op.src_pitch + c];
    }
    const real mean = chain_group_sum(op, sum) / count;
    for (int c = span.lane_c; c < span.end; c += op.lanes) {
#pragma unroll 4
      for (int p = span.lane_p; p < op.pixels; p += span.apart_p) {
        const real centred = y[p * op.src_pitch + c] - mean;
        square += centred * centred;
      }
    }
    const real r = (real)1 / real_sqrt(chain_group_sum(op, square) / count + CHAIN_EPS);
    real* const a = at.memory + span.place + op.dst;
    const real* const add = at.memory + span.place + op.add;
    for (int c = span.lane_c; c < span.end; c += op.lanes) {
      if (span.lane_p == 0 && c % per_group == 0) at.memory[span.place + op.r + c / per_group] = r;
      const real gamma = at.params[op.gamma + c], beta = at.params[op.beta + c];
#pragma unroll 1  // the activation's code is long
      for (int p = span.lane_p; p < op.pixels; p += span.apart_p) {
        const real x_hat = (y[p * op.src_pitch + c] - mean) * r;
        y[p * op.src_pitch + c] = x_hat;
        real value = activation_value(op.code, gamma * x_hat + beta);
        if (op.add >= 0) value += add[p * op.dst_pitch + c];
        a[p * op.dst_pitch + c] = value;
      }
    }
  }
}

CHAIN_FN void chain_norm_back(const ChainOp& op, const ChainBlock& at) {
  int width;
  const int spans = chain_spans(op, width), per_group = op.C / op.groups;
  const real count = (real)(op.pixels * per_group);
  for (int task = threadIdx.x / 32; task < at.chains * spans; task += CHAIN_WARPS) {
    const ChainSpan span = chain_span(op, at, task, spans, width);
    real* const y = at.memory + span.place + op.src;   // x_hat, then dy
    real* const da = at.memory + span.place + op.dst;  // da, then e
    real sum = 0, along = 0;
    for (int c = span.lane_c; c < span.end; c += op.lanes) {
      const real gamma = at.params[op.gamma + c], beta = at.params[op.beta + c];
#pragma unroll 1  // the activation's code is long
      for (int p = span.lane_p; p < op.pixels; p += span.apart_p) {
        const real x_hat = y[p * op.src_pitch + c];
        const real e = da[p * op.dst_pitch + c] * activation_slope(op.code, gamma * x_hat + beta) * gamma;
        if (!op.keep) da[p * op.dst_pitch + c] = e;
        sum += e;
        along += e * x_hat;
      }
    }
    const real mean = chain_group_sum(op, sum) / count, slope = chain_group_sum(op, along) / count;
    for (int c = span.lane_c; c < span.end; c += op.lanes) {
      const real r = at.memory[span.place + op.r + c / per_group];
      const real gamma = at.params[op.gamma + c], beta = at.params[op.beta + c];
#pragma unroll 1  // the activation's code is long
      for (int p = span.lane_p; p < op.pixels; p += span.apart_p) {
        const real x_hat = y[p * op.src_pitch + c];
        real e = da[p * op.dst_pitch + c];
        if (op.keep) e *= activation_slope(op.code, gamma * x_hat + beta) * gamma;
        y[p * op.src_pitch + c] = r * (e - mean - x_hat * slope);
      }
    }
  }
}
