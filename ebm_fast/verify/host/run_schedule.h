// Part of runtime.cpp: fibers, and which thread runs next.
#pragma once

namespace ebm_host {

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
    void* area =
        mmap(nullptr, many * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
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
  if (how->order == 2)
    std::swap(ready[ready_from], ready[ready_from + random_below((uint32_t)(ready.size() - ready_from))]);
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

}  // namespace ebm_host
