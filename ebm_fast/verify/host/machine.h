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
  unsigned int epochs;  // warp operations that ended so far
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
};

struct SharedArray {
  SharedSlot* slot;  // null: dynamic
  const char* name;
  char* memory;
  size_t bytes;
};

struct Block {
  uint3 id;
  unsigned long long number;  // unlike any other block's
  unsigned int rank;          // in its gang
  int live;
  unsigned int epoch;  // barriers passed so far
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
extern unsigned long long launches;

void describe(const Thread* t, char* text, size_t size);

}  // namespace ebm_host
