// Twins of buffer_draw and buffer_push.
//
//   buffer_draw   idx = (bits filled) >> 32, restart = u < rho, x0 = restart ? fresh : slots[idx]
//   buffer_keys   one key (place, n) for each sample n that is pushed, place n's slot, in 64 bits
//   buffer_push   slots[place] = x[n], where no later sample has that place
//
// What differs: where two samples meet in a slot, the last one wins without an order of writes: the keys are sorted,
// in which no two are equal, and a key writes where the next one names another place. That costs O(N log N) for any N
// and needs no atomic operation. A fifo's places follow one another, so its last M samples win, without keys.
// Bytes: a row read and a row written per sample.
// Launch: threads x over the quads of one sample, threads y over samples, blocks likewise (samples grid-stride).
// Deterministic.
#include "philox.cuh"

#define NOWHERE 0xffffffffu  // the place of a sample that the reservoir drops
#define OUTSIDE 0xfffffffeu  // the place of a sample whose idx names no filled slot

// u < rho for a double rho in [0, 1], both as their bits: doubles compare as they do in float64, in a float build too,
// and no double arithmetic is there. Positive numbers have the order of their bits, where NaN comes after infinity.
static __device__ __forceinline__ bool below(i64 u, i64 rho) {
  if (u >= 0) return u < rho;
  const u64 size = (u64)u << 1 >> 1;
  return size <= 0x7ff0000000000000ull && (size > 0 || rho > 0);  // no NaN; -0 is not below 0
}

// x0, fresh: (N, D)   slots: (M, D)   idx, restart, bits, u: (N,)   rho: the bits of a double
extern "C" __global__ void buffer_draw(real* x0, i64* idx, bool* restart, const real* slots, const u32* bits,
                                       const double* u, const real* fresh, i64 N, i64 D, i64 filled, i64 rho) {
  const bool vector = D % 4 == 0 && ebm_aligned16(x0) && ebm_aligned16(slots) && ebm_aligned16(fresh);
  EACH_QUAD(n, once, N, 1) {  // samples without elements have an index too
    idx[n] = philox_index(bits[n], filled);
    restart[n] = filled == 0 || below(__double_as_longlong(u[n]), rho);
  }
  EACH_QUAD(n, q, N, D) {
    const bool anew = filled == 0 || below(__double_as_longlong(u[n]), rho);
    const i64 place = philox_index(bits[n], filled);
    quad_store(x0 + n * D, q, D, vector, quad_load(anew ? fresh + n * D : slots + place * D, q, D, vector));
  }
}

// keys[n] = (place, n).   in_place: place = idx[n], which must lie in [0, bound); reservoir: bound = M slots and
// count + n samples came before, place = count + n while that is below M, then (bits (count + n + 1)) >> 32 if below M.
extern "C" __global__ void buffer_keys(u64* keys, const i64* idx, const u32* bits, i64 N, i64 count, i64 bound) {
  const i64 n = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (n >= N) return;
  u64 place;
  if (idx) {
    place = idx[n] >= 0 && idx[n] < bound ? (u64)idx[n] : OUTSIDE;
  } else {
    const u64 before = (u64)count + (u64)n, c = before + 1, word = bits[n];
    place = before < (u64)bound ? before : word * (c >> 32) + (word * (c & 0xffffffffu) >> 32);
    if (place >= (u64)bound) place = NOWHERE;
  }
  keys[n] = place << 32 | (u64)n;
}

// slots[place] = x[n].   slots: (M, D), written   x: (N, D)   keys: (N,) sorted; null for a fifo, whose slots begin at
// first
extern "C" __global__ void buffer_push(real* slots, const real* x, const u64* keys, i64 N, i64 D, i64 M, i64 first) {
  const bool vector = D % 4 == 0 && ebm_aligned16(slots) && ebm_aligned16(x);
  EACH_QUAD(i, q, N, D) {
    i64 n = i, place;
    bool wins;
    if (keys) {
      n = (i64)(keys[i] & 0xffffffffu);  // int: a sample's number has 32 bits
      place = (i64)(keys[i] >> 32);      // int: as above
      wins = place < M && (i == N - 1 || place != (i64)(keys[i + 1] >> 32));
    } else {
      place = (first + i) % M;
      wins = i + M >= N;
    }
    if (wins) quad_store(slots + place * D, q, D, vector, quad_load(x + n * D, q, D, vector));
  }
}

EBM_EXPORT(buffer_draw)
EBM_EXPORT(buffer_keys)
EBM_EXPORT(buffer_push)
