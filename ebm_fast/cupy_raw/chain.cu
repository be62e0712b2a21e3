// Twin of langevin_run for ConvEnergy and MLPEnergy: K Langevin steps in one launch, the persistent chain.
//
// What differs: a block keeps its chains for all K steps. State, activations and gradients never leave shared memory,
// noise is made in registers by address, and only weights are read again and again, from the second-level cache; in
// global memory x0 and the packed parameters are read and x, E and |g| of every step written, nothing else. No
// block waits for another, and no chain's result depends on how chains are dealt to blocks and launches.
//
//   chain_pack   the parameters of a network as the chain reads them, once a call
//   chain_run    load x0;  K times: [noise], energy and gradient (the operations of the plan), update;  store x
//
// A network is a table of operations (chain_plan.py) that every thread follows, so all shapes run in this one build:
//   LINEAR (chain_linear.cuh)  convolutions both ways          NORM, NORM_BACK (chain_norm.cuh)
//   PARTIAL, REDUCE, POOL, ... (chain_dense.cuh)  the head     the update (chain_update.cuh)
// with a barrier of the block behind each: 26 a step for three convolutions.
//
// Shared memory, in this order: the table (120 bytes an operation); a flag for each slice of a chain; the warps' rings
// of weights (8 warps of 3 steps of 256 numbers: 24,576 bytes in float); a row of zeros; sums of squares; then `stride`
// numbers a chain. For the CNN of a 28x28x1 image with 32, 64 and 128 channels a chain takes 73,072 bytes in float, so
// that two fit beside the rest into the 232,448 bytes of a block; for 32x32x3 103,568 bytes, and one fits. What a value
// takes is given back as soon as nobody reads it (chain_plan.py).
// Read out of the second-level cache a step: the weights twice, forward and back, for each 16 rows of a layer, unless
// warps that run side by side find them in the first-level cache. Operations: those of the convolutions that do not
// fall on zeros, twice, and about 80 an activation.
// Launch: 256 threads, a block for `each` chains; in float two fit a multiprocessor by registers (128 a thread).
// Deterministic. Not yet measured on a GPU.
#include "chain_dense.cuh"
#include "chain_linear.cuh"
#include "chain_norm.cuh"
#include "chain_update.cuh"

// params[to ...] = the array of blockIdx.y as (taps, rows, padded), its tail zeros; table: rows of (taps, C, O, turned,
// padded, to) from row `first` on. turned: rows are outputs and columns channels.
extern "C" __global__ void chain_pack(real* params, const int* table, int first, const real* a0, const real* a1,
                                      const real* a2, const real* a3, const real* a4, const real* a5, const real* a6,
                                      const real* a7) {
  const int which = blockIdx.y;
  const real* const a = which < 4 ? (which < 2 ? (which == 0 ? a0 : a1) : (which == 2 ? a2 : a3))
                                  : (which < 6 ? (which == 4 ? a4 : a5) : (which == 6 ? a6 : a7));
  const int* const row = table + (first + which) * 6;  // int: six numbers of each parameter
  const int taps = row[0], C = row[1], O = row[2], turned = row[3], padded = row[4];
  // int: all parameters together are fewer than 2^30 numbers, so that a stride beyond them is still an int
  const int rows = turned ? O : C, columns = turned ? C : O, size = taps * rows * padded;
  // int: as above
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
    const int tap = i / (rows * padded), r = i / padded % rows, c = i % padded;
    // int: as above
    const int from = turned ? (tap * C + c) * O + r : (tap * C + r) * O + c;
    params[row[5] + i] = c < columns ? a[from] : (real)0;
  }
}

CHAIN_FN void chain_op(const ChainOp& op, const ChainBlock& at) {
  switch (op.kind) {
    case LINEAR: chain_linear(op, at); break;
    case PARTIAL: chain_partial(op, at); break;
    case REDUCE: chain_reduce(op, at); break;
    case FILL: chain_fill(op, at); break;
    case POOL: chain_pool(op, at); break;
    case POOL_BACK: chain_pool_back(op, at); break;
    case ACT: chain_act(op, at); break;
    case ACT_BACK: chain_act_back(op, at); break;
    case NORM: chain_norm(op, at); break;
    case NORM_BACK: chain_norm_back(op, at); break;
  }
}

// size rounded up to a multiple of 16 bytes.
CHAIN_FN int chain_round(int size) { return (size + 15) / 16 * 16; }

#define CHAIN_BLOCKS (sizeof(real) == 4 ? 2 : 1)  // on a multiprocessor at a time, by registers

// K steps of `each` chains a block; step k draws at step + k.   table: `ints` numbers, a ChainHead and its operations
// x0, x: (N, D)   energies, norms: (K, N)   alive: (N,)   ids: (N,)
extern "C" __global__ void __launch_bounds__(CHAIN_THREADS, CHAIN_BLOCKS) chain_run(
    const int* table, int ints, const real* params, const real* x0, real* x, real* energies, real* norms,
    unsigned char* alive, const u32* ids, i64 N, i64 K, int each, real eta, real sigma, real clip, real clip_norm,
    real low, real high, u32 k0, u32 k1, u32 step, u32 stream, int noise_first) {
  EBM_DYN_SHARED(unsigned char, shared);
  int* const own = reinterpret_cast<int*>(shared);
  for (int i = threadIdx.x; i < ints; i += CHAIN_THREADS) own[i] = table[i];
  __syncthreads();
  const ChainHead& head = *reinterpret_cast<const ChainHead*>(own);
  const ChainOp* const ops = reinterpret_cast<const ChainOp*>(own + sizeof(ChainHead) / sizeof(int));

  const i64 first = (i64)blockIdx.x * each;
  const int slices = each * head.slices, number = sizeof(real);
  int place = chain_round(ints * 4);
  ChainBlock at;
  at.stride = head.stride;
  at.chains = (int)(N - first < each ? N - first : each);  // int: at most `each`
  at.params = params;
  at.bad = reinterpret_cast<int*>(shared + place);
  place += chain_round(slices * 4);
  at.ring = reinterpret_cast<real*>(shared + place) + threadIdx.x / 32 * STAGES * RING;
  place += CHAIN_WARPS * STAGES * RING * number;
  real* const zeros = reinterpret_cast<real*>(shared + place);
  at.zeros = zeros;
  place += head.zeros * number;
  at.squares = reinterpret_cast<Squares*>(shared + place);
  place += chain_round(slices * 2 * (int)sizeof(Squares));
  at.memory = reinterpret_cast<real*>(shared + place);

  const int D = head.D;
  for (int i = threadIdx.x; i < head.zeros; i += CHAIN_THREADS) zeros[i] = 0;
  for (int i = threadIdx.x; i < slices; i += CHAIN_THREADS) at.bad[i] = 0;
#pragma unroll 1
  for (int i = threadIdx.x; i < at.chains * D; i += CHAIN_THREADS) {
    const int d = i % D, place = i / D * at.stride + head.x + d / head.C * head.pitch + d % head.C;
    at.memory[place] = x0[first * D + i];
  }
  __syncthreads();

  const ChainUpdate update = {eta, sigma, clip, clip_norm, low, high, k0, k1, stream, noise_first != 0};
  for (i64 k = 0; k < K; ++k) {
    if (noise_first) chain_jitter(head, at, update, ids + first, step + (u32)k);
    for (int i = 0; i < head.ops; ++i) {
      chain_op(ops[i], at);
      __syncthreads();
    }
    chain_squares(head, at, update);
    __syncthreads();
    chain_move(head, at, update, ids + first, step + (u32)k, energies + k * N + first, norms + k * N + first);
    __syncthreads();
    chain_commit(head, at);
    __syncthreads();
  }
#pragma unroll 1
  for (int i = threadIdx.x; i < at.chains * D; i += CHAIN_THREADS) {
    const int d = i % D, place = i / D * at.stride + head.x + d / head.C * head.pitch + d % head.C;
    x[first * D + i] = at.memory[place];
  }
  for (int n = threadIdx.x; n < at.chains; n += CHAIN_THREADS) alive[first + n] = chain_alive(head, at, n);
}

EBM_EXPORT(chain_pack)
EBM_EXPORT(chain_run)
