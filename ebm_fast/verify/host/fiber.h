// Fibers: a stack and a place to go on. A switch saves what the C ABI says a call keeps, and changes stacks.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && defined(__ELF__)

extern "C" void ebm_host_switch(void** from, void* to);
#ifdef EBM_FIBERS_HERE  // in one file of the runtime
__asm__(
    ".text\n"
    ".hidden ebm_host_switch\n"
    ".globl ebm_host_switch\n"
    ".type ebm_host_switch, @function\n"
    "ebm_host_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size ebm_host_switch, .-ebm_host_switch\n");
#endif

struct Context {
  void* stack = nullptr;
};
static inline void context_start(Context& c, char* low, size_t bytes, void (*go)()) {
  uintptr_t top = (reinterpret_cast<uintptr_t>(low) + bytes) & ~(uintptr_t)15;
  void** at = reinterpret_cast<void**>(top);
  *--at = nullptr;                      // where `go` would return to
  *--at = reinterpret_cast<void*>(go);  // where the first switch returns to
  for (int i = 0; i < 6; ++i) *--at = nullptr;
  c.stack = at;
}
static inline void context_switch(Context& from, Context& to) { ebm_host_switch(&from.stack, to.stack); }

#else
#include <ucontext.h>

struct Context {
  ucontext_t u;
};
static inline void context_start(Context& c, char* low, size_t bytes, void (*go)()) {
  getcontext(&c.u);
  c.u.uc_stack.ss_sp = low;
  c.u.uc_stack.ss_size = bytes;
  c.u.uc_link = nullptr;
  makecontext(&c.u, go, 0);
}
static inline void context_switch(Context& from, Context& to) { swapcontext(&from.u, &to.u); }

#endif
