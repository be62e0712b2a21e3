// What host.h and the runtime agree on. CUDA threads are fibers of one thread of the machine; see runtime.cpp.
#pragma once
#include <cstddef>
#include <cstdint>

struct uint3 {
  unsigned int x, y, z;
};
struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
};

extern uint3 threadIdx, blockIdx;  // of the thread that runs now
extern dim3 blockDim, gridDim;

namespace ebm_host {

struct Place {  // a line of a kernel; `number` tells two places on one line apart
  const char* file;
  int line, number;
};

struct SharedSlot {  // one EBM_SHARED of one function: where it lies in the block that ran here last
  unsigned long long block;
  void* memory;
};

struct Launch {  // filled in by host_build.py
  unsigned int grid[3], block[3];
  unsigned long long shared;
  unsigned int order;  // 0 forward, 1 reverse, 2 random
  unsigned int seed;
  int arrays;
  // six numbers for each array: its place among the arguments, begin, end, bytes of an element; where its memory
  // begins, and a flag for each byte of that: whether it was written (or null: all were)
  const uintptr_t* array;
  char* report;  // what went wrong
  unsigned long long report_size;
  double seconds;  // limit of one launch
  int lint;        // race build: also count sectors and bank passes
  unsigned long long first, end;  // the blocks that run, of all that the grid has
};

using Body = void (*)(void** args);
using Collective = void (*)(void** lanes, unsigned int mask);  // lanes[l]: what lane l deposited; null: not in mask

int launch(const Launch* how, Body body, void** args, const char* name, int gang);  // 0: all is well
void block_barrier(const Place* at);
int block_vote(const Place* at, int value, int kind);  // 0 count, 1 and, 2 or
void gang_barrier(const Place* at);
// The last lane of `mask` to arrive runs `all`, which reads and writes what each lane deposited.
void warp(const Place* at, const char* what, unsigned int mask, void* mine, Collective all);
unsigned int active_lanes();
void* shared_array(SharedSlot* slot, const char* name, size_t bytes, size_t each);
void* dynamic_shared(size_t each);
void* gang_shared(const Place* at, void* mine, unsigned int rank);  // the same array in block `rank` of the gang
unsigned int gang_rank();
unsigned int gang_size();
void misaligned(const Place* at, const void* p, unsigned int to);
void copy_later(const Place* at, unsigned int bytes, void* to, const void* from);  // cp.async, and when it happens
void copy_commit();
void copy_wait(unsigned int left);
[[noreturn]] void fail(const Place* at, const char* format, ...) __attribute__((format(printf, 2, 3)));
int lane_of();

}  // namespace ebm_host
