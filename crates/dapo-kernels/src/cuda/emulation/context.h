// Switching between stacks.
#pragma once
#include <cstddef>

#if defined(__x86_64__)
// Saves the callee-saved registers on this stack and its pointer in *save, and goes on where `to` was saved.
extern "C" void dapo_emulation_switch(void** save, void* to);
asm(R"(
.text
.type dapo_emulation_switch, @function
dapo_emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size dapo_emulation_switch, .-dapo_emulation_switch
)");

namespace emulation {
struct Context {
    void* pointer = nullptr;
};
inline void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
    // Aligned as at a function's first instruction: a return address (never used) lies above the entry's.
    void** top = reinterpret_cast<void**>(stack + bytes - 64);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    context.pointer = top;
}
inline void switch_context(Context& from, Context& to) { dapo_emulation_switch(&from.pointer, to.pointer); }
}  // namespace emulation
#else
#include <ucontext.h>
namespace emulation {
struct Context {
    ucontext_t context;
};
inline void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context.context);
    context.context.uc_stack.ss_sp = stack;
    context.context.uc_stack.ss_size = bytes;
    context.context.uc_link = nullptr;
    makecontext(&context.context, entry, 0);
}
inline void switch_context(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
}  // namespace emulation
#endif
