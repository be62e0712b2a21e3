// Access lint: what the lanes of a warp ask of memory together, counted as the card's memory system counts it.
//
// The k-th time that a lane passes an instruction is one request with the k-th time of the other lanes. A global
// request moves the 32-byte sectors that its lanes touch; the fewest would be its bytes / 32. A shared request takes
// as many passes as the busiest of 32 banks, 4 bytes wide, has different words; a lane of 8 or 16 bytes makes it two
// or four requests of half or a quarter warp.
#include <algorithm>
#include <cstdio>
#include <map>
#include <unordered_map>

#include "race.h"

namespace ebm_host {

struct Request {
  const char* lane[32];
  uint32_t bytes;
  bool shared, store;
};
struct Sum {
  unsigned long long requests, cost, ideal;
};
using Where = std::pair<uint32_t, std::pair<bool, bool>>;  // instruction, shared?, store?

static std::unordered_map<uint64_t, uint32_t> passed;  // (instruction, thread) -> how often
static std::map<std::pair<uint64_t, uint64_t>, Request> open_requests;
static std::map<Where, Sum> sums;
static unsigned long long block_now;

static unsigned long long different(std::vector<uintptr_t>& list) {
  std::sort(list.begin(), list.end());
  return (unsigned long long)(std::unique(list.begin(), list.end()) - list.begin());
}

static void close_block() {
  for (auto& entry : open_requests) {
    const Request& r = entry.second;
    Sum& sum = sums[{(uint32_t)(entry.first.first >> 16), {r.shared, r.store}}];
    ++sum.requests;
    if (!r.shared) {
      std::vector<uintptr_t> sectors, words;
      for (const char* p : r.lane)
        for (uint32_t i = 0; p && i < r.bytes; ++i) {
          sectors.push_back((uintptr_t)(p + i) / 32);
          words.push_back((uintptr_t)(p + i));
        }
      sum.cost += different(sectors);
      sum.ideal += (different(words) + 31) / 32;
      continue;
    }
    const int parts = r.bytes <= 4 ? 1 : (int)r.bytes / 4;
    for (int part = 0; part < parts; ++part) {
      std::vector<uintptr_t> bank[32];
      bool any = false;
      for (int l = 32 / parts * part; l < 32 / parts * (part + 1); ++l)
        for (uint32_t i = 0; r.lane[l] && i < r.bytes; i += 4) {
          const uintptr_t word = (uintptr_t)(r.lane[l] + i) / 4;
          bank[word % 32].push_back(word);
          any = true;
        }
      unsigned long long most = 0;
      for (std::vector<uintptr_t>& words : bank) most = std::max(most, different(words));
      sum.cost += most;
      sum.ideal += any;
    }
  }
  open_requests.clear();
  passed.clear();
}

void lint_begin() {
  open_requests.clear();
  passed.clear();
  sums.clear();
  block_now = ~0ull;
}

void lint_add(const void* p, size_t bytes, bool shared, bool store, uint32_t pc) {
  const Thread* t = now;
  if (gang.size() == 1 && t->block->number != block_now) {
    close_block();
    block_now = t->block->number;
  }
  const uint64_t thread = (uint64_t)t->block->rank << 10 | (uint64_t)t->linear;
  const uint32_t time = passed[(uint64_t)pc << 32 | thread << 1 | store]++;
  const uint64_t warp = (uint64_t)t->block->rank << 5 | (uint64_t)t->linear / 32;
  auto found = open_requests.try_emplace({(uint64_t)pc << 16 | (uint64_t)store, warp << 32 | time},
                                         Request{{}, (uint32_t)bytes, shared, store});
  found.first->second.lane[t->linear % 32] = static_cast<const char*>(p);
}

}  // namespace ebm_host

// A line for each instruction: its place, s(hared) or g(lobal), w(rite) or r(ead), requests, cost, ideal cost.
extern "C" __attribute__((visibility("default"))) int ebm_lint(char* text, unsigned long long size) {
  using namespace ebm_host;
  close_block();
  size_t used = 0;
  for (auto& [where, sum] : sums) {
    if (used + 100 > size) return 1;
    used += (size_t)snprintf(text + used, size - used, "%x %c %c %llu %llu %llu\n", where.first,
                             where.second.first ? 's' : 'g', where.second.second ? 'w' : 'r', sum.requests, sum.cost,
                             sum.ideal);
  }
  return 0;
}
