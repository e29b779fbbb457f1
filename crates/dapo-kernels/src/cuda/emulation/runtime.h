// Runs a CUDA kernel on the CPU: one fiber per thread of a block, one block after another.
//
// A fiber runs until it meets a barrier (or a warp exchange, which contains one). When none can run, the barriers that
// are complete open; if none is, threads wait for each other for ever, and the launch fails with a message. The order
// of blocks and threads is a parameter: a kernel without races gives the same bits for every order.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

namespace emulation {

struct Dim {
    unsigned x, y, z;
};

// A thread of the running block. `full_exchanges` counts its exchanges with the whole warp.
struct Fiber {
    Dim thread;
    unsigned index;
    unsigned full_exchanges;
    enum { READY, BLOCK, WARP, DONE } state;
    unsigned mask;      // lanes that a warp barrier waits for; once it has opened, those that were there
    const char* place;  // where it waits
    void* stack;        // memory
    void* context;      // saved stack pointer
    void* sanitizer;    // the sanitizer's own stack, while not running
};

extern Fiber* current;
extern Dim grid, block, block_index;
extern char* shared;  // dynamic shared memory, exactly as long as the launch says

void wait_block(const char* place);
void wait_warp(unsigned mask, const char* place);
// Gives `value` to the lanes of `mask` and returns that of lane `source`; all ones where there is no such thread.
uint64_t exchange(unsigned mask, uint64_t value, unsigned source, const char* place);
// One value of every lane of `mask` that is there: bit i of the result says whether lane i is.
unsigned gather(unsigned mask, uint64_t value, uint64_t (&values)[32], const char* place);

inline unsigned lane() { return current->index % 32; }

// --- kernels by name -------------------------------------------------------------------------------------------------

struct Kernel {
    const char* name;
    void (*run)(void** arguments);
    const size_t* sizes;  // of the arguments, in bytes
    size_t count;
    Kernel* next;
};
extern Kernel* kernels;

template <class... A>
inline constexpr size_t argument_sizes[sizeof...(A) + 1] = {sizeof(A)..., 0};

template <auto F>
struct Entry;
template <class... A, void (*F)(A...)>
struct Entry<F> {
    template <size_t... I>
    static void call(void** arguments, std::index_sequence<I...>) {
        F(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
    }
    static void run(void** arguments) { call(arguments, std::index_sequence_for<A...>{}); }
    static Kernel describe(const char* name) { return {name, run, argument_sizes<A...>, sizeof...(A), nullptr}; }
};

struct Registration {
    Kernel kernel;
    explicit Registration(Kernel described) : kernel(described) {
        kernel.next = kernels;
        kernels = &kernel;
    }
};

}  // namespace emulation
