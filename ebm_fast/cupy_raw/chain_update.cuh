// The Langevin update of the chains of a block, on values in shared memory.
//
//   chain_jitter         at = box(x + sigma xi) where the chain lives and that is finite, x elsewhere    (noise_first)
//   chain_move           g = box(at - eta clip(g) factor [+ sigma xi]), records of E and |g|
//   chain_commit         x = g where the chain lives
//
// The element maths is langevin.cuh's. The quads of a chain are dealt out in slices, each to 1 to 32 lanes; sums over a
// slice by shuffles, over slices in their order, so that |g| depends on D alone. Noise is made in registers by
// address. A slice remembers whether it has met a number that is not finite; a chain lives while none of its has.
// int, in all of this file: a place in the chains' shared memory, or one of a block's own chains.
#pragma once
#include "chain_op.cuh"

struct ChainUpdate {
  real eta, sigma, clip, clip_norm, low, high;
  u32 k0, k1, stream;
  bool noise_first;
};

// The quads of a lane: `first`, first + lanes, ... below `end`, of one slice of one chain.
struct ChainSlice {
  int n, place, number, first, end;  // place: of the chain in memory; number: of the slice
  bool mine;                         // false: the lane has none and only takes part in the shuffles
};

// Slice number `base` + the lane's share; lanes without one get an empty slice of chain 0.
CHAIN_FN ChainSlice chain_slice(const ChainHead& head, const ChainBlock& at, int base) {
  const int lane = threadIdx.x % 32, task = base + lane / head.lanes, quads = (head.D + 3) / 4;
  if (task >= at.chains * head.slices) return {0, 0, 0, 0, 0, false};
  const int n = task / head.slices, s = task % head.slices;
  return {n, n * at.stride, task, s * head.each + lane % head.lanes, min((s + 1) * head.each, quads), true};
}

#define CHAIN_SLICES(base)                                                                                  \
  _Pragma("unroll 1") for (int base = threadIdx.x / 32 * (32 / head.lanes); base < at.chains * head.slices; \
                           base += CHAIN_THREADS / head.lanes)

// Where the elements of quad q of a chain lie, those that exist.
struct ChainPlaces {
  int d[4], count;
};

CHAIN_FN ChainPlaces chain_places(const ChainHead& head, int place, int q) {
  ChainPlaces at;
  at.count = min(4, head.D - 4 * q);
  if (head.pitch == head.C) {
#pragma unroll
    for (int j = 0; j < 4; ++j) at.d[j] = place + 4 * q + j;
    return at;
  }
  int pixel = 4 * q / head.C, c = 4 * q % head.C;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    at.d[j] = place + pixel * head.pitch + c;
    if (++c == head.C) c = 0, ++pixel;
  }
  return at;
}

#define CHAIN_QUADS(slice, q) \
  _Pragma("unroll 1") for (int q = slice.first; q < slice.end; q += head.lanes)

CHAIN_FN bool chain_alive(const ChainHead& head, const ChainBlock& at, int n) {
  int bad = 0;
  for (int s = 0; s < head.slices; ++s) bad |= at.bad[n * head.slices + s];
  return bad == 0;
}

// Remember what any lane of the slice has met.
CHAIN_FN void chain_mark(const ChainHead& head, const ChainBlock& at, const ChainSlice& slice, int bad) {
  for (int bit = 1; bit < head.lanes; bit *= 2) bad |= __shfl_xor_sync(EBM_ALL_LANES, bad, bit);
  if (bad && slice.mine && threadIdx.x % head.lanes == 0) at.bad[slice.number] = 1;
}

// to = from, for the elements of a slice.
CHAIN_FN void chain_copy(const ChainHead& head, const ChainBlock& at, const ChainSlice& slice, int to, int from) {
  CHAIN_QUADS(slice, q) {
    const ChainPlaces places = chain_places(head, slice.place, q);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j < places.count) at.memory[places.d[j] + to] = at.memory[places.d[j] + from];
    }
  }
}

CHAIN_FN void chain_jitter(const ChainHead& head, const ChainBlock& at, const ChainUpdate& u, const u32* ids,
                           u32 step) {
  CHAIN_SLICES(base) {
    const ChainSlice slice = chain_slice(head, at, base);
    int bad = 0;
    CHAIN_QUADS(slice, q) {
      const Real4 noise = langevin_normals((u32)q, ids[slice.n], step, u.stream, u.k0, u.k1);
      const ChainPlaces places = chain_places(head, slice.place, q);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (j >= places.count) continue;
        const int d = places.d[j];
        const real moved = langevin_box(at.memory[d + head.x] + u.sigma * noise.c[j], u.low, u.high);
        bad |= !langevin_finite(moved);
        at.memory[d + head.at] = moved;
      }
    }
    chain_mark(head, at, slice, bad);
  }
  __syncthreads();
  CHAIN_SLICES(base) {
    const ChainSlice slice = chain_slice(head, at, base);
    if (slice.mine && !chain_alive(head, at, slice.n)) chain_copy(head, at, slice, head.at, head.x);
  }
  __syncthreads();
}

// The sums of squares of g and of clip(g), slice by slice.
CHAIN_FN void chain_squares(const ChainHead& head, const ChainBlock& at, const ChainUpdate& u) {
  CHAIN_SLICES(base) {
    const ChainSlice slice = chain_slice(head, at, base);
    Squares plain = {0, 0, 0}, clipped = {0, 0, 0};
    CHAIN_QUADS(slice, q) {
      const ChainPlaces places = chain_places(head, slice.place + head.g, q);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (j >= places.count) continue;
        const real g = at.memory[places.d[j]];
        squares_add(plain, g);
        squares_add(clipped, langevin_clip(g, u.clip));
      }
    }
    plain = {chain_lanes_sum(plain.large, 1, head.lanes), chain_lanes_sum(plain.middle, 1, head.lanes),
             chain_lanes_sum(plain.small, 1, head.lanes)};
    clipped = {chain_lanes_sum(clipped.large, 1, head.lanes), chain_lanes_sum(clipped.middle, 1, head.lanes),
               chain_lanes_sum(clipped.small, 1, head.lanes)};
    if (slice.mine && threadIdx.x % head.lanes == 0) {
      at.squares[2 * slice.number] = plain;
      at.squares[2 * slice.number + 1] = clipped;
    }
  }
}

// The sum over the slices of chain n of squares `which`: 0 of g, 1 of clip(g).
CHAIN_FN Squares chain_total(const ChainHead& head, const ChainBlock& at, int n, int which) {
  Squares sum = {0, 0, 0};
  for (int s = 0; s < head.slices; ++s) {
    const Squares part = at.squares[2 * (n * head.slices + s) + which];
    sum.large += part.large;
    sum.middle += part.middle;
    sum.small += part.small;
  }
  return sum;
}

// energies, norms: the rows of this step, from the block's first chain on.
CHAIN_FN void chain_move(const ChainHead& head, const ChainBlock& at, const ChainUpdate& u, const u32* ids, u32 step,
                         real* energies, real* norms) {
  CHAIN_SLICES(base) {
    const ChainSlice slice = chain_slice(head, at, base);
    const real E = at.memory[slice.place + head.E];
    const Squares plain = chain_total(head, at, slice.n, 0);
    const real factor = langevin_factor(squares_norm(chain_total(head, at, slice.n, 1)), u.clip_norm);
    if (slice.mine && slice.number % head.slices == 0 && threadIdx.x % head.lanes == 0) {
      energies[slice.n] = E;
      norms[slice.n] = squares_norm(plain);
    }
    int bad = !langevin_finite(E) || !squares_finite(plain);
    CHAIN_QUADS(slice, q) {
      const ChainPlaces places = chain_places(head, slice.place, q);
      Real4 noise = {{0, 0, 0, 0}};
      if (!u.noise_first && u.sigma > 0) noise = langevin_normals((u32)q, ids[slice.n], step, u.stream, u.k0, u.k1);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (j >= places.count) continue;
        const int d = places.d[j];
        const real slope = langevin_clip(at.memory[d + head.g], u.clip) * factor;
        const real moved = langevin_move(at.memory[d + head.at], slope, noise.c[j], u.eta, u.sigma, u.low, u.high);
        bad |= !langevin_finite(moved);
        at.memory[d + head.g] = moved;
      }
    }
    chain_mark(head, at, slice, bad);
  }
}

CHAIN_FN void chain_commit(const ChainHead& head, const ChainBlock& at) {
  CHAIN_SLICES(base) {
    const ChainSlice slice = chain_slice(head, at, base);
    if (slice.mine && chain_alive(head, at, slice.n)) chain_copy(head, at, slice, head.x, head.g);
  }
}
