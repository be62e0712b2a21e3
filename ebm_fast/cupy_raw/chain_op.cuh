// What the operations of the persistent chain share: their table, a block's chains in shared memory, lanes and warps.
// int, in all of this file: a lane of a warp.
#pragma once
#include "activation.cuh"
#include "async.cuh"
#include "langevin.cuh"

enum { CHAIN_THREADS = 256, CHAIN_WARPS = CHAIN_THREADS / 32 };
enum { LINEAR, PARTIAL, REDUCE, FILL, POOL, POOL_BACK, ACT, ACT_BACK, NORM, NORM_BACK };  // chain_plan.KINDS

// One operation: a row of the table that chain_plan.py makes (its FIELDS, in this order). src, dst, add and r are
// places in one chain's memory, w, b, gamma and beta places among the packed parameters; -1: not there.
struct ChainOp {
  int kind, src, src_pitch, src_h, src_w, dst, dst_pitch, dst_h, dst_w, C, O, kernel, stride;
  int top, left, back, w, b, lanes, padded, add, pixels, groups, code, gamma, beta, r;
  int keep, parts, divisor;
};

// What the table says before its operations (chain_plan.HEAD, in this order): places of the state x, of the point
// `at` where energy E and gradient g are taken, and of these two; C and pitch of x; a chain's elements D and stride;
// and how the update deals a chain's quads out: `slices` of `each` quads, `lanes` lanes to a slice.
struct ChainHead {
  int ops, x, at, E, g, C, pitch, D, stride, zeros, slices, each, lanes;
};

// The chains of one block. Element (pixel, c) of a value of chain n lies at memory + n * stride + value + pixel *
// pitch + c.
struct ChainBlock {
  real* memory;
  int stride, chains;
  const real* params;  // in global memory, packed
  const real* zeros;   // in shared memory: what a pixel outside the image holds
  real* ring;          // in shared memory: this warp's weights on their way
  Squares* squares;    // in shared memory: of g and of clip(g), a pair for each slice of each chain
  int* bad;            // in shared memory: whether a slice has ever met what is not finite
};

#define CHAIN_FN static __device__ __forceinline__

// v summed over the lanes that differ in the bits low <= bit < high, in a fixed order; all of them get the same bits.
CHAIN_FN real chain_lanes_sum(real v, int low, int high) {
  for (int bit = low; bit < high; bit *= 2) v += __shfl_xor_sync(EBM_ALL_LANES, v, bit);
  return v;
}
