// Part of runtime.cpp: the shared memory of blocks, and copies under way.
#pragma once

namespace ebm_host {

#if defined(__SANITIZE_ADDRESS__)
static const size_t MARGIN = 0;  // the sanitiser sees what leaves an allocation
#else
static const size_t MARGIN = 256;  // bytes of 0xFF on each side of an array
#endif

static char* new_memory(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 128, bytes + 2 * MARGIN))
    fail(nullptr, "out of memory for %zu bytes of shared memory", bytes);
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
    fail(at, "%s of block %u of the cluster is read before that block has begun: a cluster barrier is missing", a.name,
         rank);
  }
  fail(at, "ebm_cluster_shared of a pointer that is not into shared memory");
}

static void free_shared(Block& b) {
  for (SharedArray& a : b.shared) {
    for (size_t i = 0; i < MARGIN && !failed; ++i) {
      const bool before = (unsigned char)a.memory[-1 - (ptrdiff_t)i] != 0xFF;
      if (before || (unsigned char)a.memory[a.bytes + i] != 0xFF) {
        snprintf(how->report, how->report_size,
                 "a write outside shared memory: %s of %zu bytes, %zu bytes %s it; a thread of block (%u, %u, %u)",
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

void copy_later(const Place* at, unsigned int bytes, void* to, const void* from) {
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

}  // namespace ebm_host
