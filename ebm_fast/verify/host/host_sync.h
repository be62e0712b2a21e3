// Barriers and what the lanes of a warp do together.
#pragma once

// __COUNTER__ tells places on one line apart; two calls of one function that holds the barrier stay one place.
#define EBM_PLACE                                                               \
  ([]() -> const ebm_host::Place* {                                             \
    static constexpr ebm_host::Place place = {__FILE__, __LINE__, __COUNTER__}; \
    return &place;                                                              \
  }())

#define __syncthreads() ebm_host::block_barrier(EBM_PLACE)
#define __syncthreads_count(...) ebm_host::block_vote(EBM_PLACE, (__VA_ARGS__) != 0, 0)
#define __syncthreads_and(...) ebm_host::block_vote(EBM_PLACE, (__VA_ARGS__) != 0, 1)
#define __syncthreads_or(...) ebm_host::block_vote(EBM_PLACE, (__VA_ARGS__) != 0, 2)
#define __syncwarp(...) ebm_host::SyncWarp{EBM_PLACE}(__VA_ARGS__)
#define __activemask() ebm_host::active_lanes()
#define __threadfence_block() ((void)0)
#define __threadfence() ((void)0)

#define __shfl_sync(mask, ...) ebm_host::shuffle<0>(EBM_PLACE, mask, __VA_ARGS__)
#define __shfl_up_sync(mask, ...) ebm_host::shuffle<1>(EBM_PLACE, mask, __VA_ARGS__)
#define __shfl_down_sync(mask, ...) ebm_host::shuffle<2>(EBM_PLACE, mask, __VA_ARGS__)
#define __shfl_xor_sync(mask, ...) ebm_host::shuffle<3>(EBM_PLACE, mask, __VA_ARGS__)
#define __ballot_sync(mask, ...) ebm_host::ballot(EBM_PLACE, "__ballot_sync", mask, (__VA_ARGS__) != 0)
#define __any_sync(mask, ...) (ebm_host::ballot(EBM_PLACE, "__any_sync", mask, (__VA_ARGS__) != 0) != 0)
#define __all_sync(mask, ...) (ebm_host::ballot(EBM_PLACE, "__all_sync", mask, (__VA_ARGS__) == 0) == 0)

#define ebm_cluster_sync() ebm_host::gang_barrier(EBM_PLACE)
#define ebm_grid_sync(arrived) ((void)(arrived), ebm_host::gang_barrier(EBM_PLACE))
#define ebm_cluster_rank() ebm_host::gang_rank()
#define ebm_cluster_shared(...) ebm_host::gang_map(EBM_PLACE, __VA_ARGS__)

namespace ebm_host {

struct SyncWarp {
  const Place* at;
  void operator()(unsigned int mask = 0xffffffffu) const {
    char nothing;
    warp(at, "__syncwarp", mask, &nothing, [](void**, unsigned int) {});
  }
};

template <class T>
struct Shuffled {
  T value, result;
  int by, width;
};

// kind: 0 from lane `by`, 1 from `by` below, 2 from `by` above, 3 from lane ^ by; outside its width a lane keeps its
// own.
template <int kind, class T>
static inline T shuffle(const Place* at, unsigned int mask, T value, int by, int width = 32) {
  static const char* const names[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_down_sync", "__shfl_xor_sync"};
  Shuffled<T> mine = {value, value, by, width};
  warp(at, names[kind], mask, &mine, [](void** lanes, unsigned int) {
    for (int l = 0; l < 32; ++l) {
      if (!lanes[l]) continue;
      Shuffled<T>& to = *static_cast<Shuffled<T>*>(lanes[l]);
      const int low = l & ~(to.width - 1), high = low + to.width;
      int from = kind == 0 ? low + (to.by & (to.width - 1)) : kind == 1 ? l - to.by : kind == 2 ? l + to.by : l ^ to.by;
      if (kind == 3 ? from >= high : from < low || from >= high) from = l;
      if (lanes[from]) to.result = static_cast<Shuffled<T>*>(lanes[from])->value;
      else std::memset(&to.result, 0xFF, sizeof(T));  // a lane outside the mask has nothing to give
    }
  });
  return mine.result;
}

static inline unsigned int ballot(const Place* at, const char* what, unsigned int mask, bool value) {
  struct Vote {
    bool value;
    unsigned int all;
  } mine = {value, 0};
  warp(at, what, mask, &mine, [](void** lanes, unsigned int) {
    unsigned int all = 0;
    for (int l = 0; l < 32; ++l) all |= (unsigned int)(lanes[l] && static_cast<Vote*>(lanes[l])->value) << l;
    for (int l = 0; l < 32; ++l)
      if (lanes[l]) static_cast<Vote*>(lanes[l])->all = all;
  });
  return mine.all;
}

template <class T>
static inline T* gang_map(const Place* at, T* mine, unsigned int rank) {
  return static_cast<T*>(gang_shared(at, mine, rank));
}

}  // namespace ebm_host
