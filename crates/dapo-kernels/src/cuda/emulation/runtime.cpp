// The scheduler of the emulation: see runtime.h.
#include "runtime.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "context.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {

Fiber* current = nullptr;
Dim grid, block, block_index;
char* shared = nullptr;
Kernel* kernels = nullptr;

namespace {

constexpr size_t STACK_BYTES = 256 << 10;
constexpr unsigned MAX_THREADS = 1024;
constexpr size_t MAX_SHARED_BYTES = 227 << 10;

struct Slot {
    Fiber fiber{};
    Context context;
    std::unique_ptr<char[]> stack;
};

std::vector<Slot> slots;
Context scheduler;
#if defined(__SANITIZE_ADDRESS__)
const void* scheduler_stack = nullptr;
size_t scheduler_stack_bytes = 0;
void* scheduler_sanitizer = nullptr;
#endif
void (*body)(void**) = nullptr;
void** body_arguments = nullptr;
// By parity of the exchange, warp and lane. Alternating halves need one barrier an exchange: a lane can be at most one
// exchange ahead of another.
uint64_t exchanged[2][MAX_THREADS / 32][32];
uint64_t exchanged_by_some[MAX_THREADS / 32][32];

void leave(bool for_ever) {
    Fiber* me = current;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(for_ever ? nullptr : &me->sanitizer, scheduler_stack, scheduler_stack_bytes);
#else
    (void)for_ever;
#endif
    switch_context(slots[me->index].context, scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(me->sanitizer, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

void enter(Slot& slot) {
    current = &slot.fiber;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_sanitizer, slot.stack.get(), STACK_BYTES);
#endif
    switch_context(scheduler, slot.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_sanitizer, nullptr, nullptr);
#endif
}

void first_entry() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
    body(body_arguments);
    current->state = Fiber::DONE;
    leave(true);
    std::abort();
}

unsigned threads() { return block.x * block.y * block.z; }

// Lanes of `mask` that exist and have not returned.
unsigned present(unsigned warp, unsigned mask) {
    unsigned result = 0;
    for (unsigned i = 0; i < 32 && warp * 32 + i < threads(); i++) {
        if ((mask >> i & 1) && slots[warp * 32 + i].fiber.state != Fiber::DONE) result |= 1u << i;
    }
    return result;
}

// Opens a warp's complete barriers; says whether there was one.
bool open_warp(unsigned warp) {
    bool opened = false;
    for (unsigned i = 0; i < 32 && warp * 32 + i < threads(); i++) {
        Fiber& first = slots[warp * 32 + i].fiber;
        if (first.state != Fiber::WARP) continue;
        unsigned lanes = present(warp, first.mask);
        bool complete = true;
        for (unsigned l = 0; l < 32; l++) {
            if (!(lanes >> l & 1)) continue;
            const Fiber& other = slots[warp * 32 + l].fiber;
            complete = complete && other.state == Fiber::WARP && other.mask == first.mask &&
                       std::strcmp(other.place, first.place) == 0;
        }
        if (!complete) continue;
        for (unsigned l = 0; l < 32; l++) {
            if (!(lanes >> l & 1)) continue;
            slots[warp * 32 + l].fiber.state = Fiber::READY;
            slots[warp * 32 + l].fiber.mask = lanes;
        }
        opened = true;
    }
    return opened;
}

// Opens the block's barrier if every live thread waits at the same one.
bool open_block() {
    const char* place = nullptr;
    for (unsigned t = 0; t < threads(); t++) {
        const Fiber& fiber = slots[t].fiber;
        if (fiber.state == Fiber::DONE) continue;
        if (fiber.state != Fiber::BLOCK || (place && std::strcmp(place, fiber.place) != 0)) return false;
        place = fiber.place;
    }
    for (unsigned t = 0; t < threads(); t++) {
        if (slots[t].fiber.state == Fiber::BLOCK) slots[t].fiber.state = Fiber::READY;
    }
    return place != nullptr;
}

std::string describe_deadlock(const char* name) {
    std::string text = std::string(name) + ": divergent barrier, threads wait for each other:";
    const char* last = "";
    for (unsigned t = 0; t < threads(); t++) {
        const Fiber& fiber = slots[t].fiber;
        const char* place = fiber.state == Fiber::DONE ? "returned" : fiber.place;
        if (std::strcmp(place, last) != 0) text += " thread " + std::to_string(t) + " " + place + ";";
        last = place;
    }
    return text;
}

// 0 … n−1: ascending for order 0, descending for 1, else shuffled by the order as seed.
std::vector<unsigned> permutation(unsigned n, uint64_t order) {
    std::vector<unsigned> result(n);
    std::iota(result.begin(), result.end(), 0u);
    if (order == 1) std::reverse(result.begin(), result.end());
    for (unsigned i = n; order > 1 && i > 1; i--) {
        order = order * 6364136223846793005u + 1442695040888963407u;
        std::swap(result[i - 1], result[(order >> 33) % i]);
    }
    return result;
}

// Runs one block to its end; false when its threads wait for each other.
bool run_block(const std::vector<unsigned>& turns) {
    for (unsigned t = 0; t < threads(); t++) {
        Slot& slot = slots[t];
        if (!slot.stack) slot.stack.reset(new char[STACK_BYTES]);
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(slot.stack.get(), STACK_BYTES);
#endif
        slot.fiber = {};
        slot.fiber.thread = {t % block.x, t / block.x % block.y, t / (block.x * block.y)};
        slot.fiber.index = t;
        slot.fiber.place = "";
        prepare(slot.context, slot.stack.get(), STACK_BYTES, first_entry);
    }
    for (;;) {
        bool ran = false, live = false;
        for (unsigned t : turns) {
            if (slots[t].fiber.state == Fiber::READY) {
                enter(slots[t]);
                ran = true;
            }
            live = live || slots[t].fiber.state != Fiber::DONE;
        }
        if (!live) return true;
        bool opened = false;
        for (unsigned warp = 0; warp * 32 < threads(); warp++) opened = open_warp(warp) || opened;
        if (!opened && !ran && !open_block()) return false;
    }
}

std::string launch(const Kernel& kernel, size_t shared_bytes, void** arguments, uint64_t order) {
    if (threads() == 0 || threads() > MAX_THREADS) return std::string(kernel.name) + ": 1 to 1024 threads a block";
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return std::string(kernel.name) + ": the grid is empty";
    if (grid.y > 65535 || grid.z > 65535) return std::string(kernel.name) + ": at most 65535 blocks in y and z";
    if (shared_bytes > MAX_SHARED_BYTES) return std::string(kernel.name) + ": more than 227 KiB of shared memory";
    if (slots.size() < threads()) slots.resize(threads());
    body = kernel.run;
    body_arguments = arguments;
    // Of its own for every launch, and no longer than asked for: a sanitizer sees an access past its end.
    void* memory = nullptr;
    if (posix_memalign(&memory, 128, std::max<size_t>(shared_bytes, 1)) != 0) return "out of memory";
    shared = static_cast<char*>(memory);
    bool ok = true;
    const std::vector<unsigned> turns = permutation(threads(), order);
    for (unsigned b : permutation(grid.x * grid.y * grid.z, order)) {
        block_index = {b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)};
        std::memset(shared, 0xff, shared_bytes);
        ok = run_block(turns);
        if (!ok) break;
    }
    std::free(memory);
    current = nullptr;
    return ok ? "" : describe_deadlock(kernel.name);
}

}  // namespace

void wait_block(const char* place) {
    current->state = Fiber::BLOCK;
    current->place = place;
    leave(false);
}

void wait_warp(unsigned mask, const char* place) {
    current->state = Fiber::WARP;
    current->mask = mask;
    current->place = place;
    leave(false);
}

unsigned gather(unsigned mask, uint64_t value, uint64_t (&values)[32], const char* place) {
    unsigned warp = current->index / 32;
    bool full = mask == ~0u;
    uint64_t(&row)[32] = full ? exchanged[current->full_exchanges++ % 2][warp] : exchanged_by_some[warp];
    row[lane()] = value;
    wait_warp(mask, place);
    unsigned lanes = current->mask;
    std::memcpy(values, row, sizeof row);
    // Some lanes only: other groups of lanes use the same row, so nobody leaves before all have read.
    if (!full) wait_warp(mask, place);
    return lanes;
}

uint64_t exchange(unsigned mask, uint64_t value, unsigned source, const char* place) {
    uint64_t values[32];
    unsigned lanes = gather(mask, value, values, place);
    return source < 32 && (lanes >> source & 1) ? values[source] : ~uint64_t(0);
}

}  // namespace emulation

// Runs a kernel by its name. Returns null, or why not (valid until this thread's next call). One launch runs at a time.
extern "C" const char* dapo_emulation_launch(const char* name, const unsigned* grid, const unsigned* block,
                                             size_t shared_bytes, void** arguments, const size_t* sizes, size_t count,
                                             uint64_t order) {
    static std::mutex mutex;
    static thread_local std::string message;
    std::lock_guard<std::mutex> guard(mutex);
    message = std::string(name) + ": no such kernel";
    for (const emulation::Kernel* kernel = emulation::kernels; kernel; kernel = kernel->next) {
        if (std::strcmp(kernel->name, name) != 0) continue;
        message.clear();
        if (kernel->count != count) {
            message = std::string(name) + ": expects " + std::to_string(kernel->count) + " arguments, got " +
                      std::to_string(count);
            break;
        }
        for (size_t i = 0; i < count && message.empty(); i++) {
            if (kernel->sizes[i] != sizes[i]) {
                message = std::string(name) + ": argument " + std::to_string(i) + " has " + std::to_string(sizes[i]) +
                          " bytes, expected " + std::to_string(kernel->sizes[i]);
            }
        }
        if (!message.empty()) break;
        emulation::grid = {grid[0], grid[1], grid[2]};
        emulation::block = {block[0], block[1], block[2]};
        message = emulation::launch(*kernel, shared_bytes, arguments, order);
        break;
    }
    return message.empty() ? nullptr : message.c_str();
}
