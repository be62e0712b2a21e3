// The race build: kernels are compiled with -fsanitize=thread, whose calls end here instead of in its runtime.
//
// Each access is looked up among the arrays of the launch and the shared arrays of the blocks that run: outside of all
// of them it is out of bounds. Inside, it is compared with the last write and the last reads of its words: two accesses
// of different threads, one of them a write and not both atomic, must have between them a barrier of the block, a
// __syncwarp that names both lanes, or a barrier of the cluster or grid. A word, shared or of an array that was not
// initialised, must be written before it is read, and one that cp.async fills must not be touched before the wait.
// One report ends the launch.
#include "race.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" __attribute__((visibility("hidden"))) char __ehdr_start[], _end[];  // this library, from the linker

namespace ebm_host {

enum Access { LOAD, STORE, ATOMIC };
void touched(const void* p, size_t bytes, Access kind, void* pc);

struct Global {
  char *begin, *end;
  size_t grain;
  int place;  // among the arguments
  Cell* cells;
  char *first, *written;  // of its memory; written[p - first]: whether the byte at p was, or null: all were
};
static std::vector<Global> arrays;

static uint32_t offset_of(void* pc) { return (uint32_t)(static_cast<char*>(pc) - __ehdr_start - 1); }
static size_t grain_of(size_t each) { return each >= 4 ? 4 : each == 2 ? 2 : 1; }

void race_begin() {
  arrays.clear();
  for (int i = 0; i < how->arrays; ++i) {
    const uintptr_t* a = how->array + 6 * i;
    Global g = {reinterpret_cast<char*>(a[1]), reinterpret_cast<char*>(a[2]), grain_of(a[3]), (int)a[0], nullptr,
                reinterpret_cast<char*>(a[4]), reinterpret_cast<char*>(a[5])};
    if (g.begin == g.end) continue;
    for (size_t j = 0; j < arrays.size();) {  // arrays that overlap become one
      Global& o = arrays[j];
      if (o.begin < g.end && g.begin < o.end) {
        if (o.begin < g.begin) g.begin = o.begin, g.place = o.place;
        if (o.end > g.end) g.end = o.end;
        if (o.grain < g.grain) g.grain = o.grain;
        arrays.erase(arrays.begin() + (ptrdiff_t)j);
        j = 0;
      } else {
        ++j;
      }
    }
    arrays.push_back(g);
  }
  for (Global& g : arrays) g.cells = static_cast<Cell*>(calloc((size_t)(g.end - g.begin) / g.grain + 1, sizeof(Cell)));
  lint_begin();
}

void race_end() {
  for (Global& g : arrays) free(g.cells);
  arrays.clear();
}

void race_new_shared(SharedArray& a) {
  a.grain = grain_of(a.grain);
  a.cells = static_cast<Cell*>(calloc(a.bytes / a.grain + 1, sizeof(Cell)));
}
void race_free_shared(SharedArray& a) { free(a.cells); }
void race_new_warp(Warp& w) { w.clock.assign(32 * 32, 0); }

void race_sync_warp(Warp& w, unsigned int mask) {
  unsigned int heard[32] = {};
  for (int l = 0; l < 32; ++l)
    if (mask >> l & 1) {
      ++w.clock[(size_t)(33 * l)];
      for (int m = 0; m < 32; ++m)
        heard[m] = heard[m] > w.clock[(size_t)(32 * l + m)] ? heard[m] : w.clock[(size_t)(32 * l + m)];
    }
  for (int l = 0; l < 32; ++l)
    if (mask >> l & 1) memcpy(&w.clock[(size_t)(32 * l)], heard, sizeof heard);
}

static bool ordered(const Record& r) {
  const Thread* t = now;
  const Block& b = *t->block;
  if (r.block != b.linear) return r.block >= gang[0].linear && r.block <= gang.back().linear && r.gang < gang_epoch;
  if (r.thread == t->linear || r.epoch < b.epoch) return true;
  if (r.thread / 32 != t->linear / 32) return false;
  return b.warps[(size_t)t->linear / 32].clock[(size_t)(32 * (t->linear % 32) + r.thread % 32)] > r.clock;
}

void race_block_end(Block& b) {
  if (b.remote == gang_epoch + 1)
    fail(nullptr, "the block leaves, and no cluster barrier since another block touched its shared memory at @%x@",
         b.remote_pc);
}

static Record record(uint16_t flags, uint32_t pc) {
  const Thread* t = now;
  const Block& b = *t->block;
  const unsigned int clock = b.warps[(size_t)t->linear / 32].clock[(size_t)(33 * (t->linear % 32))];
  return {b.linear, (uint16_t)t->linear, (uint16_t)(flags | USED), b.epoch, gang_epoch, clock, pc};
}

struct Place1 {
  char name[128];
};
static Place1 name_of(const Global* g, const SharedArray* s, const Block* owner) {
  Place1 n;
  if (g) snprintf(n.name, sizeof n.name, "argument %d of %zu bytes", g->place, (size_t)(g->end - g->begin));
  else if (owner != now->block)
    snprintf(n.name, sizeof n.name, "shared %s of %zu bytes of block %u of the cluster", s->name, s->bytes,
             owner->rank);
  else snprintf(n.name, sizeof n.name, "shared %s of %zu bytes", s->name, s->bytes);
  return n;
}

static const char* verb(const Record& r, bool write) {
  return r.flags & BY_COPY ? "cp.async" : r.flags & BY_ATOMIC ? "atomic operation" : write ? "write" : "read";
}

[[noreturn]] static void fail_race(const Place1& array, size_t offset, const char* mine, uint32_t pc, const Record& r,
                                   bool write) {
  const unsigned int x = blockDim.x, y = blockDim.y, gx = gridDim.x, gy = gridDim.y;
  fail(nullptr,
       "race: %s of %s at byte %zu, at @%x@, and no barrier since its %s by thread (%u, %u, %u) of block (%u, %u, %u) "
       "at @%x@",
       mine, array.name, offset, pc, verb(r, write), r.thread % x, r.thread / x % y, r.thread / x / y, r.block % gx,
       r.block / gx % gy, r.block / gx / gy, r.pc);
}

static void look(Cell& c, size_t offset, Access kind, uint16_t flags, uint32_t pc, const Global* g,
                 const SharedArray* s, const Block* owner) {
  const Record mine = record((uint16_t)(flags | (kind == ATOMIC ? BY_ATOMIC : 0)), pc);
  const char* what = flags & BY_COPY ? (kind == LOAD ? "cp.async from" : "cp.async to")
                     : kind == LOAD  ? "read"
                     : kind == STORE ? "write"
                                     : "atomic operation";
  if (c.write.flags & UNDER_WAY && !(flags & BY_COPY))
    fail(nullptr, "%s of %s at byte %zu, at @%x@, while the cp.async from @%x@ is under way", what,
         name_of(g, s, owner).name, offset, pc, c.write.pc);
  if (s && kind != STORE && !(c.write.flags & USED))
    fail(nullptr, "%s of unwritten %s at byte %zu, at @%x@", what, name_of(g, s, owner).name, offset, pc);
  if (c.write.flags & USED && !(kind == ATOMIC && c.write.flags & BY_ATOMIC) && !ordered(c.write))
    fail_race(name_of(g, s, owner), offset, what, pc, c.write, true);
  if (kind == LOAD) {
    const Record last = c.read[0];
    if (last.flags & USED && (last.block != mine.block || last.thread != mine.thread)) {
      c.read[1] = last;
      if (last.block != mine.block || last.thread / 32 != mine.thread / 32) c.read[2] = last;
    }
    c.read[0] = mine;
    return;
  }
  for (const Record& r : c.read)
    if (r.flags & USED && !ordered(r)) fail_race(name_of(g, s, owner), offset, what, pc, r, false);
  c.write = mine;
}

static bool is_poison(const char* p, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    if ((unsigned char)p[i] != 0xFF) return false;
  return true;
}

static void look_all(const char* p, size_t bytes, Access kind, uint16_t flags, uint32_t pc, const Global* g,
                     const SharedArray* s, const Block* owner) {
  const char* begin = g ? g->begin : s->memory;
  const size_t grain = g ? g->grain : s->grain;
  Cell* cells = g ? g->cells : s->cells;
  const size_t offset = (size_t)(p - begin);
  if (g && g->written) {
    char* flag = g->written + (p - g->first);
    for (size_t i = 0; i < bytes && kind != STORE; i += grain)
      if (!flag[i] && is_poison(p + i, grain < bytes ? grain : bytes))
        fail(nullptr, "read of unwritten %s at byte %zu, at @%x@", name_of(g, s, owner).name, offset + i, pc);
    if (kind != LOAD) memset(flag, 1, bytes);
  }
  for (size_t i = offset / grain; i * grain < offset + bytes; ++i)
    look(cells[i], i * grain, kind, flags, pc, g, s, owner);
}

[[noreturn]] static void fail_bounds(const char* p, size_t bytes, const char* what, uint32_t pc) {
  Place1 nearest = {};
  size_t best = SIZE_MAX;
  bool after = false;
  auto consider = [&](const char* begin, const char* end, const Global* g, const SharedArray* s, const Block* b) {
    const size_t far = p < begin ? (size_t)(begin - p) : (size_t)(p + bytes - end);
    if (far < best) best = far, after = p >= begin, nearest = name_of(g, s, b);
  };
  for (const Global& g : arrays) consider(g.begin, g.end, &g, nullptr, nullptr);
  for (const Block& b : gang)
    for (const SharedArray& s : b.shared) consider(s.memory, s.memory + s.bytes, nullptr, &s, &b);
  if (best == SIZE_MAX)
    fail(nullptr, "out of bounds: %s of %zu bytes, at @%x@; the launch has no array", what, bytes, pc);
  fail(nullptr, "out of bounds: %s of %zu bytes, at @%x@: %zu bytes %s %s", what, bytes, pc, best,
       after ? "past the end of" : "before", nearest.name);
}

static void touch(const char* p, size_t bytes, Access kind, uint16_t flags, uint32_t pc) {
  for (const Global& g : arrays)
    if (p >= g.begin && p + bytes <= g.end) {
      if (how->lint) lint_add(p, bytes, false, kind != LOAD, pc);
      return look_all(p, bytes, kind, flags, pc, &g, nullptr, nullptr);
    }
  for (size_t i = 0; i < gang.size(); ++i) {
    Block& b = gang[(i + now->block->rank) % gang.size()];  // its own first
    for (const SharedArray& s : b.shared)
      if (p >= s.memory && p + bytes <= s.memory + s.bytes) {
        if (b.live == 0)
          fail(nullptr, "%s, at @%x@, after that block has left: a cluster barrier is missing",
               name_of(nullptr, &s, &b).name, pc);
        if (&b != now->block) b.remote = gang_epoch + 1, b.remote_pc = pc;
        if (how->lint) lint_add(p, bytes, true, kind != LOAD, pc);
        return look_all(p, bytes, kind, flags, pc, nullptr, &s, &b);
      }
  }
  if ((p >= __ehdr_start && p < _end) || on_a_stack(p)) return;  // constants, local variables
  fail_bounds(p, bytes, kind == LOAD ? "read" : kind == STORE ? "write" : "atomic operation", pc);
}

void touched(const void* p, size_t bytes, Access kind, void* pc) {
  touch(static_cast<const char*>(p), bytes, kind, 0, offset_of(pc));
}

// cp.async: the words may change from its start to the wait, so both count as its write.
void race_copy(const Copy& c, bool arrived, void* pc) {
  touch(static_cast<const char*>(c.from), c.bytes, LOAD, BY_COPY, offset_of(pc));
  touch(static_cast<const char*>(c.to), c.bytes, STORE, (uint16_t)(BY_COPY | (arrived ? 0 : UNDER_WAY)), offset_of(pc));
}

}  // namespace ebm_host

#define EBM_PC __builtin_return_address(0)
#define EBM_HOOK(bytes)                                                                                 \
  void __tsan_read##bytes(void* p) { ebm_host::touched(p, bytes, ebm_host::LOAD, EBM_PC); }             \
  void __tsan_write##bytes(void* p) { ebm_host::touched(p, bytes, ebm_host::STORE, EBM_PC); }           \
  void __tsan_unaligned_read##bytes(void* p) { ebm_host::touched(p, bytes, ebm_host::LOAD, EBM_PC); }   \
  void __tsan_unaligned_write##bytes(void* p) { ebm_host::touched(p, bytes, ebm_host::STORE, EBM_PC); } \
  void __tsan_volatile_read##bytes(void* p) { ebm_host::touched(p, bytes, ebm_host::LOAD, EBM_PC); }    \
  void __tsan_volatile_write##bytes(void* p) { ebm_host::touched(p, bytes, ebm_host::STORE, EBM_PC); }
extern "C" {
EBM_HOOK(1)
EBM_HOOK(2)
EBM_HOOK(4)
EBM_HOOK(8)
EBM_HOOK(16)
void __tsan_read_range(void* p, size_t bytes) { ebm_host::touched(p, bytes, ebm_host::LOAD, EBM_PC); }
void __tsan_write_range(void* p, size_t bytes) { ebm_host::touched(p, bytes, ebm_host::STORE, EBM_PC); }
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  ebm_host::touched(from, bytes, ebm_host::LOAD, EBM_PC);
  ebm_host::touched(to, bytes, ebm_host::STORE, EBM_PC);
  return memcpy(to, from, bytes);
}
void* __tsan_memset(void* to, int value, size_t bytes) {
  ebm_host::touched(to, bytes, ebm_host::STORE, EBM_PC);
  return memset(to, value, bytes);
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
}
