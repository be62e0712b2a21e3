// The machine that runs a launch: its blocks, threads and what they wait for. Shared by runtime.cpp and race.cpp.
#pragma once
#include <vector>

#include "fiber.h"
#include "runtime.h"

namespace ebm_host {

struct Block;

struct Fiber {
  Context context;
  char* low;
};

struct Cell;

struct Copy {  // a cp.async under way
  void* to;
  const void* from;
  unsigned int bytes, group;
};

struct Thread {
  uint3 id;
  int linear;
  Block* block;
  Fiber* fiber;
  const Place* waits;   // for a barrier, or null
  unsigned int groups;  // of cp.async that were committed
  std::vector<Copy> copies;
};

struct Pending {  // a warp operation that some lanes have come to
  const Place* at;
  const char* what;
  unsigned int mask, come;
  void* lane[32];
  Thread* thread[32];
};

struct Warp {
  unsigned int live;
  std::vector<Pending> pending;
  std::vector<unsigned int> clock;  // race build: [l][m], the time of lane m that lane l has heard of by __syncwarp
};

struct SharedArray {
  SharedSlot* slot;  // null: dynamic
  const char* name;
  char* memory;
  size_t bytes;
  size_t grain;  // bytes of a cell
  Cell* cells;   // race build
};

struct Block {
  uint3 id;
  unsigned long long number;  // unlike any other block's
  unsigned int linear, rank;  // its place in the grid and in its gang
  int live;
  int votes[2], counted[2];  // threads that said no and yes: on their way to the barrier, and when it last opened
  unsigned int epoch;        // barriers passed so far
  unsigned int remote;  // race build: the gang's epoch, and 1, in which another block last touched its shared memory
  uint32_t remote_pc;   // where
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<Thread*> waiting;
  std::vector<SharedArray> shared;
};

extern const Launch* how;
extern const char* kernel_name;
extern Thread* now;
extern std::vector<Block> gang;
extern unsigned int gang_epoch;
static const size_t STACK = 256 << 10;  // bytes of a fiber's stack

bool on_a_stack(const void* p);

#ifdef EBM_HOST_RACE  // race.cpp
void race_begin();
void race_end();
void race_new_shared(SharedArray& a);
void race_free_shared(SharedArray& a);
void race_new_warp(Warp& w);
void race_block_end(Block& b);
void race_sync_warp(Warp& w, unsigned int mask);
void race_copy(const Copy& c, bool arrived, void* pc);
void lint_begin();
void lint_add(const void* p, size_t bytes, bool shared, bool store, uint32_t pc);
#else
static inline void race_begin() {}
static inline void race_end() {}
static inline void race_new_shared(SharedArray&) {}
static inline void race_free_shared(SharedArray&) {}
static inline void race_new_warp(Warp&) {}
static inline void race_block_end(Block&) {}
static inline void race_sync_warp(Warp&, unsigned int) {}
static inline void race_copy(const Copy&, bool, void*) {}
#endif

}  // namespace ebm_host
