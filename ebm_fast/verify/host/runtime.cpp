// Runs a CUDA launch on one thread of this machine: a fiber for each CUDA thread, a block (or a gang of blocks that
// wait for one another) at a time.
//
// A fiber runs thread after thread until one has to wait, so a kernel without barriers never switches. A barrier
// opens when every live thread of the block has come. At a warp operation each lane leaves its operands, and the
// last lane of the mask to arrive does the whole operation. Threads, and blocks, run forward, in reverse or in a
// random order. Shared memory is allocated for each block, filled with 0xFF (NaN), and looked over at the block's
// end: a write just outside it is an error. Whatever is wrong ends the launch with a report.
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

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
#if defined(__SANITIZE_ADDRESS__)
static const size_t MARGIN = 0;  // the sanitiser sees what leaves an allocation
#else
static const size_t MARGIN = 256;
#endif

static Body body;
static void** arguments;
static Context outside;               // of launch()
static std::vector<Fiber*> idle;      // fibers without a thread
static std::vector<Fiber*> fibers;    // all of them
static std::vector<Thread*> fresh;    // threads that have not begun; the next one is at the back
static std::vector<Thread*> ready;    // threads that can go on
static size_t ready_from;             // the first of them
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
      used += (size_t)snprintf(text + used, sizeof text - used, "%s%s at %s:%d (%zu of %zu have come)", used ? "; " : "",
                               what, at->file, at->line, come, of);
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

// ---------------------------------------------------------------------------------------- scheduling

static void enter(Thread* t) {
  now = t;
  threadIdx = t->id;
  blockIdx = t->block->id;
}

static void thread_end();

static void fiber_main() {
  for (;;) {
    body(arguments);
    thread_end();
  }
}

struct Area {
  char *low, *high;
};
static std::vector<Area> areas;  // of stacks

bool on_a_stack(const void* p) {
  for (const Area& a : areas)
    if (p >= a.low && p < a.high) return true;
  return false;
}

static Fiber* new_fiber() {
  if (idle.empty()) {
    const size_t many = 64;
    void* area = mmap(nullptr, many * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) fail(nullptr, "out of memory for the stacks of threads");
    areas.push_back({static_cast<char*>(area), static_cast<char*>(area) + many * STACK});
    for (size_t i = 0; i < many; ++i) {
      Fiber* f = new Fiber;
      f->low = static_cast<char*>(area) + i * STACK;
      fibers.push_back(f);
      idle.push_back(f);
    }
  }
  Fiber* f = idle.back();
  idle.pop_back();
  // stacks that begin at one offset of a page would fight for the same lines of the cache
  const size_t shift = ((uintptr_t)f->low / STACK % 61) * STAGGER;
  context_start(f->context, f->low, STACK - shift, fiber_main);
  return f;
}

static Thread* take_ready() {
  if (how->order == 2) std::swap(ready[ready_from], ready[ready_from + random_below((uint32_t)(ready.size() - ready_from))]);
  Thread* t = ready[ready_from++];
  if (ready_from == ready.size()) ready.clear(), ready_from = 0;
  return t;
}

// The thread that runs now cannot go on: run another.
static void wait_here() {
  Thread* self = now;
  Fiber* mine = self->fiber;
  if (ready_from < ready.size() && (fresh.empty() || how->order != 2 || random_below(2))) {
    Thread* t = take_ready();
    enter(t);
    if (t != self) context_switch(mine->context, t->fiber->context);
  } else if (!fresh.empty()) {
    Thread* t = fresh.back();
    fresh.pop_back();
    t->fiber = new_fiber();
    enter(t);
    context_switch(mine->context, t->fiber->context);
  } else {
    fail_stuck();
  }
  // back again: whoever switched here called enter(self)
}

static void open_block(Block& b, Thread* arriving);
static void open_gang(Thread* arriving);

static void thread_end() {
  Thread* self = now;
  Block& b = *self->block;
  Fiber* mine = self->fiber;
  const int lane = self->linear & 31;
  Warp& w = b.warps[(size_t)self->linear >> 5];
  w.live &= ~(1u << lane);
  for (Pending& p : w.pending)
    if (p.mask >> lane & 1) fail(p.at, "%s waits for lane %d, which has left the kernel", p.what, lane);
  --b.live, --gang_live, --unfinished;
  if (!b.live) race_block_end(b);
  if (b.live && (int)b.waiting.size() == b.live) open_block(b, nullptr);
  if (gang_live && (int)gang_waiting.size() == gang_live) open_gang(nullptr);
  self->fiber = nullptr;
  if (!fresh.empty() && (ready_from == ready.size() || (how->order == 2 && random_below(2)))) {
    Thread* t = fresh.back();
    fresh.pop_back();
    t->fiber = mine;
    enter(t);
    return;  // fiber_main runs it
  }
  idle.push_back(mine);
  if (ready_from < ready.size()) {
    Thread* t = take_ready();
    enter(t);
    context_switch(mine->context, t->fiber->context);
  } else if (unfinished == 0) {
    context_switch(mine->context, outside);
  } else {
    idle.pop_back();
    self->fiber = mine;
    fail_stuck();
  }
}

// ------------------------------------------------------------------------------------------ barriers

static bool same(const Place* a, const Place* b) {
  return a == b || (a->line == b->line && a->number == b->number && !strcmp(a->file, b->file));
}

static void open_all(std::vector<Thread*>& waiting, Thread* arriving) {
  const Place* at = waiting[0]->waits;
  for (Thread* t : waiting)
    if (!same(t->waits, at)) {
      char one[128], two[128];
      describe(waiting[0], one, sizeof one);
      describe(t, two, sizeof two);
      fail(at, "divergent barriers: %s waits here, %s waits at %s:%d", one, two, t->waits->file, t->waits->line);
    }
  for (Thread* t : waiting) {
    t->waits = nullptr;
    if (t != arriving) ready.push_back(t);
  }
  waiting.clear();
}

static void open_block(Block& b, Thread* arriving) {
  open_all(b.waiting, arriving);
  ++b.epoch;
}

static void open_gang(Thread* arriving) {
  open_all(gang_waiting, arriving);
  ++gang_epoch;
  for (Block& b : gang) ++b.epoch;
}

void block_barrier(const Place* at) {
  Thread* self = now;
  Block& b = *self->block;
  self->waits = at;
  b.waiting.push_back(self);
  // the last to come waits its turn too: otherwise it would always run ahead of the others
  if ((int)b.waiting.size() == b.live) open_block(b, b.live == 1 ? self : nullptr);
  if (b.live > 1) wait_here();
}

void gang_barrier(const Place* at) {
  Thread* self = now;
  self->waits = at;
  gang_waiting.push_back(self);
  if ((int)gang_waiting.size() == gang_live) open_gang(gang_live == 1 ? self : nullptr);
  if (gang_live > 1) wait_here();
}

static int votes[2];  // how many said yes, and how many no, since the last barrier: for one block at a time

int block_vote(const Place* at, int value, int kind) {
  if (gang.size() > 1) fail(at, "__syncthreads with a vote is not modelled where blocks wait for one another");
  ++votes[value ? 0 : 1];
  block_barrier(at);
  const int yes = votes[0], no = votes[1];
  block_barrier(at);
  votes[0] = votes[1] = 0;
  return kind == 0 ? yes : kind == 1 ? no == 0 : yes > 0;
}

// ---------------------------------------------------------------------------------- warp operations

int lane_of() { return now->linear & 31; }
unsigned int active_lanes() { return 1u << lane_of(); }
unsigned int gang_rank() { return now->block->rank; }
unsigned int gang_size() { return (unsigned int)gang.size(); }

void warp(const Place* at, const char* what, unsigned int mask, void* mine, Collective all) {
  Thread* self = now;
  const int lane = self->linear & 31;
  Warp& w = self->block->warps[(size_t)self->linear >> 5];
  if (!(mask >> lane & 1)) fail(at, "%s: lane %d is not in its own mask 0x%08x", what, lane, mask);
  if (mask & ~w.live) fail(at, "%s: the mask 0x%08x names lanes that have left or never were: 0x%08x", what, mask, mask & ~w.live);
  Pending* found = nullptr;
  for (Pending& p : w.pending) {
    if (p.mask == mask && !strcmp(p.what, what) && !(p.come >> lane & 1)) {
      found = &p;
    } else if (p.mask & mask) {
      fail(at, "%s with mask 0x%08x, while others of these lanes wait in %s with mask 0x%08x at %s:%d", what, mask, p.what,
           p.mask, p.at->file, p.at->line);
    }
  }
  if (!found) {
    w.pending.push_back(Pending{at, what, mask, 0, {}, {}});
    found = &w.pending.back();
  }
  found->come |= 1u << lane;
  found->lane[lane] = mine;
  found->thread[lane] = self;
  if (found->come != mask) {
    wait_here();
    return;
  }
  Pending done = *found;
  *found = w.pending.back();
  w.pending.pop_back();
  all(done.lane, mask);
  // a shuffle exchanges registers; only __syncwarp orders what lanes do to memory
  if (!strcmp(what, "__syncwarp")) race_sync_warp(w, mask);
  for (int l = 0; l < 32; ++l)
    if (mask >> l & 1 && done.thread[l] != self) ready.push_back(done.thread[l]);
}

// --------------------------------------------------------------------------------------------- memory

static char* new_memory(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 128, bytes + 2 * MARGIN)) fail(nullptr, "out of memory for %zu bytes of shared memory", bytes);
  char* raw = static_cast<char*>(memory);
  memset(raw, 0xFF, bytes + 2 * MARGIN);
  return raw + MARGIN;
}

static void* add_shared(Block& b, SharedArray a) {
  race_new_shared(a);
  b.shared.push_back(a);
  return a.memory;
}

void* shared_array(SharedSlot* slot, const char* name, size_t bytes, size_t each) {
  Block& b = *now->block;
  if (slot->block == b.number) return slot->memory;
  for (SharedArray& a : b.shared)
    if (a.slot == slot) {
      *slot = {b.number, a.memory};
      return a.memory;
    }
  *slot = {b.number, add_shared(b, {slot, name, new_memory(bytes), bytes, each, nullptr})};
  return slot->memory;
}

void* dynamic_shared(size_t each) {
  Block& b = *now->block;
  for (SharedArray& a : b.shared)
    if (!a.slot) return a.memory;
  if (!how->shared) fail(nullptr, "EBM_DYN_SHARED in a launch without dynamic shared memory");
  return add_shared(b, {nullptr, "dynamic shared memory", new_memory(how->shared), how->shared, each, nullptr});
}

void* gang_shared(const Place* at, void* mine, unsigned int rank) {
  if (rank >= gang.size()) fail(at, "block %u of a cluster of %zu", rank, gang.size());
  for (SharedArray& a : now->block->shared) {
    const size_t off = (size_t)(static_cast<char*>(mine) - a.memory);
    if (static_cast<char*>(mine) < a.memory || off >= a.bytes) continue;
    for (SharedArray& theirs : gang[rank].shared)
      if (theirs.slot == a.slot) return theirs.memory + off;
    fail(at, "%s of block %u of the cluster is read before that block has begun: a cluster barrier is missing", a.name, rank);
  }
  fail(at, "ebm_cluster_shared of a pointer that is not into shared memory");
}

static void free_shared(Block& b) {
  for (SharedArray& a : b.shared) {
    for (size_t i = 0; i < MARGIN && !failed; ++i) {
      const bool before = (unsigned char)a.memory[-1 - (ptrdiff_t)i] != 0xFF;
      if (before || (unsigned char)a.memory[a.bytes + i] != 0xFF) {
        snprintf(how->report, how->report_size, "a write outside shared memory: %s of %zu bytes, %zu bytes %s it; a thread of block (%u, %u, %u)",
                 a.name, a.bytes, before ? i + 1 : i, before ? "before" : "after the end of", b.id.x, b.id.y, b.id.z);
        failed = true;
      }
    }
    race_free_shared(a);
    free(a.memory - MARGIN);
  }
  b.shared.clear();
}

void misaligned(const Place* at, const void* p, unsigned int to) {
  fail(at, "an access of 16 bytes at %p, which is not a multiple of %u", p, to);
}

void copy_later(const Place* at, void* to, const void* from, unsigned int bytes) {
  if ((uintptr_t)to % bytes || (uintptr_t)from % bytes) misaligned(at, (uintptr_t)to % bytes ? to : from, bytes);
  const Copy c = {to, from, bytes, now->groups};
  race_copy(c, false, __builtin_return_address(0));
  memset(to, 0xFF, bytes);  // the card may write from now on
  now->copies.push_back(c);
}

void copy_commit() { ++now->groups; }

void copy_wait(unsigned int left) {
  std::vector<Copy>& copies = now->copies;
  size_t kept = 0;
  for (const Copy& c : copies) {
    if (c.group + left < now->groups) {
      race_copy(c, true, __builtin_return_address(0));
      memcpy(c.to, c.from, c.bytes);
    } else {
      copies[kept++] = c;
    }
  }
  copies.resize(kept);
}

// ------------------------------------------------------------------------------------------- watchdog

#ifdef __linux__
static const int ALARM = SIGRTMAX - 5;

static void on_alarm(int) { fail(nullptr, "still running after %g seconds", how->seconds); }

struct Watchdog {  // counts the time of this thread alone, so a busy machine does not matter
  timer_t timer;
  struct sigaction before;
  bool set;
  explicit Watchdog(double seconds) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    action.sa_flags = SA_NODEFER;  // on_alarm never returns
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    event.sigev_signo = ALARM;
    set = seconds > 0 && !sigaction(ALARM, &action, &before) && !timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer);
    if (!set) return;
    struct itimerspec when;
    memset(&when, 0, sizeof when);
    when.it_value.tv_sec = (time_t)seconds;
    when.it_value.tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9);
    timer_settime(timer, 0, &when, nullptr);
  }
  ~Watchdog() {
    if (!set) return;
    timer_delete(timer);
    sigaction(ALARM, &before, nullptr);
  }
};
#else
struct Watchdog {
  explicit Watchdog(double) {}
};
#endif

// --------------------------------------------------------------------------------------------- launch

static void start_block(Block& b, uint64_t linear, unsigned int rank) {
  const dim3 g = gridDim, s = blockDim;
  b.id = {(unsigned)(linear % g.x), (unsigned)(linear / g.x % g.y), (unsigned)(linear / g.x / g.y)};
  b.number = ++block_number;
  b.linear = (unsigned)linear;
  b.rank = rank;
  b.epoch = b.remote = 0;
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
  votes[0] = votes[1] = 0;
  gridDim = dim3(asked->grid[0], asked->grid[1], asked->grid[2]);
  blockDim = dim3(asked->block[0], asked->block[1], asked->block[2]);
  const uint64_t total = (uint64_t)gridDim.x * gridDim.y * gridDim.z;
  const size_t many = gang_of == 0 ? (size_t)total : (size_t)gang_of;
  if (total % many) {
    snprintf(asked->report, asked->report_size, "a grid of %zu blocks does not divide into clusters of %zu", (size_t)total, many);
    return 1;
  }
  gang.assign(many, Block{});
  race_begin();
  const uint64_t gangs = total / many;
  std::vector<uint64_t> turn;
  if (asked->order == 2) {
    turn.resize(gangs);
    for (uint64_t i = 0; i < gangs; ++i) turn[i] = i;
    arrange(turn);
  }
  Watchdog watchdog(asked->seconds);
  for (uint64_t i = 0; i < gangs && !failed; ++i) {
    run_gang((asked->order == 0 ? i : asked->order == 1 ? gangs - 1 - i : turn[i]) * many, many);
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
