// Part of runtime.cpp: barriers, and operations of a warp.
#pragma once

namespace ebm_host {

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
  for (int i = 0; i < 2; ++i) b.counted[i] = b.votes[i], b.votes[i] = 0;
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

int block_vote(const Place* at, int value, int kind) {
  Block& b = *now->block;
  ++b.votes[value ? 1 : 0];
  block_barrier(at);
  const int no = b.counted[0], yes = b.counted[1];  // as they were when the barrier opened
  return kind == 0 ? yes : kind == 1 ? no == 0 : yes > 0;
}

int lane_of() { return now->linear & 31; }
unsigned int active_lanes() { return 1u << lane_of(); }
unsigned int gang_rank() { return now->block->rank; }
unsigned int gang_size() { return (unsigned int)gang.size(); }

void warp(const Place* at, const char* what, unsigned int mask, void* mine, Collective all) {
  Thread* self = now;
  const int lane = self->linear & 31;
  Warp& w = self->block->warps[(size_t)self->linear >> 5];
  if (!(mask >> lane & 1)) fail(at, "%s: lane %d is not in its own mask 0x%08x", what, lane, mask);
  if (mask & ~w.live)
    fail(at, "%s: the mask 0x%08x names lanes that have left or never were: 0x%08x", what, mask, mask & ~w.live);
  Pending* found = nullptr;
  // other operations may be open: lanes of one mask can be past a place where lanes of another still wait
  for (Pending& p : w.pending)
    if (p.mask == mask && !strcmp(p.what, what)) found = &p;
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

}  // namespace ebm_host
