// What the race build remembers of a word of memory.
#pragma once
#include "machine.h"

namespace ebm_host {

struct Record {     // one access
  uint32_t block;   // its place in the grid
  uint16_t thread;  // its place in the block
  uint16_t flags;
  uint32_t epoch, gang, clock;  // barriers of the block, of the gang, and __syncwarps, that came before it
  uint32_t pc;
};
enum : uint16_t { USED = 1, BY_ATOMIC = 2, BY_COPY = 4, UNDER_WAY = 8 };

struct Cell {
  Record write;    // the last
  Record read[3];  // the last; the last by another thread than that; the last by another warp than the first
};

}  // namespace ebm_host
