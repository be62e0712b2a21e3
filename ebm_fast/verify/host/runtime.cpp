// Runs a CUDA launch on one thread of this machine: a fiber for each CUDA thread, a block (or a gang of blocks that
// wait for one another) at a time.
//
// A fiber runs thread after thread until one has to wait, so a kernel without barriers never switches. A barrier
// opens when every live thread of the block has come. At a warp operation each lane leaves its operands, and the
// last lane of the mask to arrive does the whole operation. Threads, and blocks, run forward, in reverse or in a
// random order. Shared memory is allocated for each block, filled with 0xFF (NaN), and looked over at the block's
// end: a write just outside it is an error. Whatever is wrong ends the launch with a report.
#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#define EBM_FIBERS_HERE
#include "machine.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

#if defined(__SANITIZE_ADDRESS__)
extern "C" void __asan_unpoison_memory_region(void const volatile*, size_t);
#endif

namespace ebm_host {

const Launch* how;
const char* kernel_name;
Thread* now;
std::vector<Block> gang;
unsigned int gang_epoch;

static const size_t STAGGER = 64;

static Body body;
static void** arguments;
static Context outside;             // of launch()
static std::vector<Fiber*> idle;    // fibers without a thread
static std::vector<Fiber*> fibers;  // all of them
static std::vector<Thread*> fresh;  // threads that have not begun; the next one is at the back
static std::vector<Thread*> ready;  // threads that can go on
static size_t ready_from;           // the first of them
static std::vector<Thread*> gang_waiting;
static int gang_live, unfinished;
static bool failed;
static uint64_t dice;
static unsigned long long block_number;

static uint32_t random_below(uint32_t n) {  // splitmix64
  uint64_t z = (dice += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return (uint32_t)(((z ^ (z >> 31)) >> 32) * n >> 32);
}

template <class T>
static void arrange(std::vector<T>& list) {
  if (how->order == 1) std::reverse(list.begin(), list.end());
  if (how->order == 2)
    for (size_t i = list.size(); i > 1; --i) std::swap(list[i - 1], list[random_below((uint32_t)i)]);
}

// ------------------------------------------------------------------------------------------ reports

static void describe(const Thread* t, char* text, size_t size) {
  snprintf(text, size, "thread (%u, %u, %u) of block (%u, %u, %u)", t->id.x, t->id.y, t->id.z, t->block->id.x,
           t->block->id.y, t->block->id.z);
}

[[noreturn]] static void leave() {
  failed = true;
  context_switch(now->fiber->context, outside);
  __builtin_unreachable();
}

void fail(const Place* at, const char* format, ...) {
  char text[1024], who[128];
  va_list rest;
  va_start(rest, format);
  vsnprintf(text, sizeof text, format, rest);
  va_end(rest);
  describe(now, who, sizeof who);
  if (at) snprintf(how->report, how->report_size, "%s:%d: %s; %s", at->file, at->line, text, who);
  else snprintf(how->report, how->report_size, "%s; %s", text, who);
  leave();
}

[[noreturn]] static void fail_stuck() {
  char text[1024];
  size_t used = 0;
  text[0] = 0;
  auto add = [&](const Place* at, const char* what, size_t come, size_t of) {
    if (used < sizeof text)
      used += (size_t)snprintf(text + used, sizeof text - used, "%s%s at %s:%d (%zu of %zu have come)",
                               used ? "; " : "", what, at->file, at->line, come, of);
  };
  for (Block& b : gang) {
    if (!b.waiting.empty()) add(b.waiting[0]->waits, "__syncthreads", b.waiting.size(), (size_t)b.live);
    for (Warp& w : b.warps)
      for (Pending& p : w.pending)
        add(p.at, p.what, (size_t)__builtin_popcount(p.come), (size_t)__builtin_popcount(p.mask));
  }
  if (!gang_waiting.empty()) add(gang_waiting[0]->waits, "gang barrier", gang_waiting.size(), (size_t)gang_live);
  fail(nullptr, "deadlock: every thread waits: %s", text);
}

}  // namespace ebm_host

#include "run_schedule.h"
#include "run_memory.h"
#include "run_sync.h"
#include "run_watchdog.h"

namespace ebm_host {

// --------------------------------------------------------------------------------------------- launch

static void start_block(Block& b, uint64_t linear, unsigned int rank) {
  const dim3 g = gridDim, s = blockDim;
  b.id = {(unsigned)(linear % g.x), (unsigned)(linear / g.x % g.y), (unsigned)(linear / g.x / g.y)};
  b.number = ++block_number;
  b.linear = (unsigned)linear;
  b.rank = rank;
  b.epoch = b.remote = 0;
  b.votes[0] = b.votes[1] = 0;
  const int n = (int)(s.x * s.y * s.z);
  b.live = n;
  b.waiting.clear();
  if ((int)b.threads.size() != n) {
    b.threads.assign((size_t)n, Thread{});
    b.warps.assign((size_t)(n + 31) / 32, Warp{});
    for (int i = 0; i < n; ++i) {
      Thread& t = b.threads[(size_t)i];
      t.linear = i;
      t.id = {(unsigned)i % s.x, (unsigned)i / s.x % s.y, (unsigned)i / s.x / s.y};
    }
  }
  for (Warp& w : b.warps) w.live = 0, w.pending.clear(), race_new_warp(w);
  for (Thread& t : b.threads) {
    t.block = &b;
    t.waits = nullptr;
    t.fiber = nullptr;
    t.groups = 0;
    t.copies.clear();
    b.warps[(size_t)t.linear >> 5].live |= 1u << (t.linear & 31);
  }
}

static void run_gang(uint64_t first, size_t many) {
  gang_epoch = 0;
  gang_live = unfinished = 0;
  for (size_t i = 0; i < many; ++i) {
    start_block(gang[i], first + i, (unsigned)i);
    gang_live += gang[i].live;
    for (Thread& t : gang[i].threads) fresh.push_back(&t);
  }
  unfinished = gang_live;
  arrange(fresh);
  std::reverse(fresh.begin(), fresh.end());  // they are taken from the back
  Thread* t = fresh.back();
  fresh.pop_back();
  now = t;
  t->fiber = new_fiber();
  enter(t);
  context_switch(outside, t->fiber->context);
}

int launch(const Launch* asked, Body kernel, void** args, const char* name, int gang_of) {
  how = asked;
  kernel_name = name;
  body = kernel;
  arguments = args;
  failed = false;
  dice = asked->seed;
  gridDim = dim3(asked->grid[0], asked->grid[1], asked->grid[2]);
  blockDim = dim3(asked->block[0], asked->block[1], asked->block[2]);
  const uint64_t total = (uint64_t)gridDim.x * gridDim.y * gridDim.z;
  const size_t many = gang_of == 0 ? (size_t)total : (size_t)gang_of;
  if (total % many) {
    snprintf(asked->report, asked->report_size, "a grid of %zu blocks does not divide into clusters of %zu",
             (size_t)total, many);
    return 1;
  }
  gang.assign(many, Block{});
  race_begin();
  const uint64_t first = asked->first / many, gangs = (asked->end + many - 1) / many - first;
  std::vector<uint64_t> turn;
  if (asked->order == 2) {
    turn.resize(gangs);
    for (uint64_t i = 0; i < gangs; ++i) turn[i] = i;
    arrange(turn);
  }
  Watchdog watchdog(asked->seconds);
  for (uint64_t i = 0; i < gangs && !failed; ++i) {
    run_gang((first + (asked->order == 0 ? i : asked->order == 1 ? gangs - 1 - i : turn[i])) * many, many);
    for (Block& b : gang) free_shared(b);
  }
  race_end();
  if (failed) {
    idle = fibers;  // whatever they did is abandoned
    fresh.clear();
    ready.clear();
    gang_waiting.clear();
    ready_from = 0;
#if defined(__SANITIZE_ADDRESS__)
    for (Fiber* f : fibers) __asan_unpoison_memory_region(f->low, STACK);
#endif
  }
  return failed;
}

}  // namespace ebm_host
