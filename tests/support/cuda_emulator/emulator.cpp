#include "emulator.hpp"

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace emulator {
namespace {

constexpr size_t kStackBytes = 128 << 10;
constexpr unsigned kWarp = 32, kBarriers = 16;
constexpr int kPatience = 100000;  // rounds in which threads only wait for memory

enum class State { ready, spinning, at_block, at_warp, done };

struct Group {
    std::vector<Pending> copies;
    std::function<void()> then;
};

// Where a function that called go() waits. Switching between fibers is what takes the time here, so
// only the first entry into one is a system call.
using Place = void* [5];

[[gnu::noinline, noreturn]] void jump(Place to) {  // never from the function of `to` itself
    __builtin_longjmp(to, 1);
}
[[gnu::noinline]] void go(Place from, Place to) {
    if (__builtin_setjmp(from) == 0) jump(to);
}
[[gnu::noinline]] void begin(Place from, const ucontext_t& to) {
    if (__builtin_setjmp(from) == 0) setcontext(&to);
}

struct Thread {
    ucontext_t context;  // of its beginning
    Place place;         // where it waits, once it has begun
    bool begun = false;
    std::unique_ptr<std::byte[]> stack{new std::byte[kStackBytes]};
    State state = State::ready;
    uint3 index{};
    int barrier = 0;
    unsigned barrier_threads = 0;
    uint32_t mask = 0;
    int parity = 0;  // of its exchanges
    std::vector<Pending> open;
    std::vector<Group> groups;
    Products products;
    uint64_t fenced = 0;  // copies that had landed in the block at its last fence for products
    void* fake_stack = nullptr;  // AddressSanitizer's, while the thread waits
};

// The last copy to 16 bytes of shared memory: the how manieth it was to land.
struct Copied {
    bool under_way = false;
    uint64_t landed = 0;
};
constexpr size_t kGranule = 16;

struct Warp {
    std::array<std::array<std::array<std::byte, kExchangeBytes>, kWarp>, 2> given;
};

struct Block {
    Place scheduler;
    const void* scheduler_stack = nullptr;
    size_t scheduler_stack_bytes = 0;
    void* scheduler_fake_stack = nullptr;
    std::vector<std::unique_ptr<Thread>> threads;  // kept from block to block
    std::vector<Warp> warps;
    std::vector<std::byte> shared;
    std::byte* shared_begin = nullptr;
    size_t shared_bytes = 0;
    std::vector<Copied> copied;
    uint64_t landed = 0;
    Thread* running = nullptr;
    size_t count = 0;
    const std::function<void()>* body = nullptr;
    std::exception_ptr failure;
};

thread_local Block block;
bool reversed = false, last_warp_first = false;

void run_body(Thread& self) {
    try {
        (*block.body)();
        bool under_way = !self.open.empty();
        for (const auto& group : self.groups) under_way |= !group.copies.empty();
        if (under_way) throw Error("a thread ended with asynchronous copies under way");
        if (self.products.under_way()) throw Error("a thread ended with products under way");
    } catch (...) {
        if (!block.failure) block.failure = std::current_exception();
    }
}

// AddressSanitizer must know which stack is in use: around each switch it is told where the next
// one lies. `fake_stack` null: nobody will come back to this one.
#if defined(__SANITIZE_ADDRESS__)
void before_switch(void** fake_stack, const void* to, size_t bytes) {
    __sanitizer_start_switch_fiber(fake_stack, to, bytes);
}
void after_switch(void* fake_stack, const void** from = nullptr, size_t* bytes = nullptr) {
    __sanitizer_finish_switch_fiber(fake_stack, from, bytes);
}
// A stack that was left in the middle of its functions.
void fresh_stack(const void* stack) {
    __asan_unpoison_memory_region(stack, kStackBytes);
}
#else
void before_switch(void**, const void*, size_t) {}
void after_switch(void*, const void** = nullptr, size_t* = nullptr) {}
void fresh_stack(const void*) {}
#endif

void leave(Thread& self) {
    before_switch(&self.fake_stack, block.scheduler_stack, block.scheduler_stack_bytes);
    go(self.place, block.scheduler);
    after_switch(self.fake_stack);
}

// A fiber runs one thread after another, so that its beginning is paid for once.
void entry() {
    after_switch(nullptr, &block.scheduler_stack, &block.scheduler_stack_bytes);
    for (;;) {
        Thread& self = *block.running;
        run_body(self);
        self.state = State::done;
        leave(self);
    }
}

void wait(State state) {
    Thread& self = *block.running;
    self.state = state;
    leave(self);
}

void resume(Thread& thread) {
    thread.state = State::ready;
    block.running = &thread;
    threadIdx = thread.index;
    before_switch(&block.scheduler_fake_stack, thread.stack.get(), kStackBytes);
    if (thread.begun) {
        go(block.scheduler, thread.place);
    } else {
        thread.begun = true;
        begin(block.scheduler, thread.context);
    }
    after_switch(block.scheduler_fake_stack);
}

void prepare(Thread& thread, uint3 index) {
    const bool ended = thread.state == State::done;
    thread.state = State::ready;
    thread.index = index;
    thread.parity = 0;
    thread.open.clear();
    thread.groups.clear();
    thread.products.clear();
    thread.fenced = 0;
    if (thread.begun && ended) return;
    thread.begun = false;  // new, or left behind by a block that failed
    fresh_stack(thread.stack.get());
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = kStackBytes;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, entry, 0);
    // A sanitizer would forget at every switch what it knows of the stack named here.
    thread.context.uc_stack = {};
}

Copied* copied_at(const std::byte* shared) {
    const auto at = static_cast<size_t>(shared - block.shared_begin);
    return at < block.shared_bytes ? &block.copied[at / kGranule] : nullptr;
}

void land_first_group(Thread& thread) {
    const Group group = std::move(thread.groups.front());
    thread.groups.erase(thread.groups.begin());
    for (const Pending& copy : group.copies) {
        std::memcpy(copy.to, copy.from, copy.bytes);
        std::memset(copy.to + copy.bytes, 0, copy.zeros);
        if (Copied* const copied = copied_at(copy.to)) *copied = {false, ++block.landed};
    }
    if (group.then) group.then();
}

// When all threads wait: one group of each thread that others are told of.
bool land_groups() {
    bool landed = false;
    for (size_t i = 0; i < block.count; ++i) {
        Thread& thread = *block.threads[i];
        if (thread.groups.empty() || !thread.groups.front().then) continue;
        land_first_group(thread);
        landed = true;
    }
    return landed;
}

// Lets the lanes of a warp go whose partners have all arrived.
bool release_warp(size_t first) {
    bool released = false;
    const size_t last = std::min(first + kWarp, block.count);
    for (size_t i = first; i < last; ++i) {
        Thread& thread = *block.threads[i];
        if (thread.state != State::at_warp) continue;
        bool all = true;
        for (size_t k = first; k < last; ++k) {
            const Thread& other = *block.threads[k];
            if (!(thread.mask >> (k - first) & 1) || other.state == State::done) continue;
            if (other.state != State::at_warp || other.mask != thread.mask) all = false;
        }
        if (!all) continue;
        const uint32_t mask = thread.mask;
        for (size_t k = first; k < last; ++k)
            if (mask >> (k - first) & 1 && block.threads[k]->state == State::at_warp)
                block.threads[k]->state = State::ready;
        released = true;
    }
    return released;
}

bool release_barriers() {
    bool released = false;
    for (unsigned id = 0; id < kBarriers; ++id) {
        unsigned waiting = 0, alive = 0, wanted = 0;
        for (size_t i = 0; i < block.count; ++i) {
            const Thread& thread = *block.threads[i];
            alive += thread.state != State::done;
            if (thread.state != State::at_block || thread.barrier != static_cast<int>(id)) continue;
            ++waiting;
            wanted = thread.barrier_threads;
        }
        if (waiting == 0 || waiting < (wanted ? wanted : alive)) continue;
        for (size_t i = 0; i < block.count; ++i) {
            Thread& thread = *block.threads[i];
            if (thread.state == State::at_block && thread.barrier == static_cast<int>(id))
                thread.state = State::ready;
        }
        released = true;
    }
    return released;
}

std::string stuck() {
    std::string text = "block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) +
                       ", " + std::to_string(blockIdx.z) + ") is stuck; threads";
    int named = 0;
    for (size_t i = 0; i < block.count && named < 8; ++i) {
        const State state = block.threads[i]->state;
        if (state == State::done) continue;
        text += " " + std::to_string(i) +
                (state == State::at_block  ? " at a barrier"
                 : state == State::at_warp ? " at a warp instruction"
                                           : " waiting for memory");
        ++named;
    }
    return text;
}

void run_block() {
    const size_t warps = (block.count + kWarp - 1) / kWarp;
    int idle = 0;
    for (;;) {
        bool alive = false, progress = false;
        for (size_t w = 0; w < warps; ++w) {
            const size_t first = (last_warp_first ? warps - 1 - w : w) * kWarp;
            const size_t last = std::min(first + kWarp, block.count);
            do
                for (size_t i = first; i < last; ++i) {
                    Thread& thread = *block.threads[i];
                    if (thread.state == State::ready) progress = true;
                    if (thread.state == State::ready || thread.state == State::spinning)
                        resume(thread);
                }
            while (release_warp(first));
            for (size_t i = first; i < last; ++i) alive |= block.threads[i]->state != State::done;
        }
        if (block.failure || !alive) return;
        progress |= release_barriers();
        if (!progress) progress = land_groups();
        idle = progress ? 0 : idle + 1;
        bool spinning = false;
        for (size_t i = 0; i < block.count; ++i)
            spinning |= block.threads[i]->state == State::spinning;
        if (!progress && (!spinning || idle > kPatience)) throw Error(stuck());
    }
}

uint16_t read_for_product(uint32_t address) {
    if (address + 2 > block.shared_bytes) throw Error("a product reads past shared memory");
    const Copied& copied = block.copied[address / kGranule];
    if (copied.under_way) throw Error("a product reads what is still being copied");
    if (copied.landed > block.running->fenced)
        throw Error("a product reads what was copied without fence_for_products() behind it");
    uint16_t value;
    std::memcpy(&value, block.shared_begin + address, sizeof value);
    return value;
}

}  // namespace

void reverse_warps(bool reverse) {
    reversed = reverse;
}

void run(dim3 grid, dim3 size, size_t dynamic_shared_bytes, const std::function<void()>& body) {
    block.count = size_t{size.x} * size.y * size.z;
    if (block.count == 0 || block.count > 1024) throw Error("a block of impossible size");
    if (size_t{grid.x} * grid.y * grid.z == 0 || grid.y > 65535 || grid.z > 65535)
        throw Error("a grid of impossible size");
    if (dynamic_shared_bytes > (227 << 10)) throw Error("more shared memory than a block can have");
    last_warp_first = reversed || std::getenv("LUMACHROME_EMULATOR_REVERSE") != nullptr;
    gridDim = grid;
    blockDim = size;
    block.body = &body;
    block.warps.resize((block.count + kWarp - 1) / kWarp);
    while (block.threads.size() < block.count) block.threads.push_back(std::make_unique<Thread>());
    constexpr size_t kAlignment = 1024;
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                blockIdx = {x, y, z};
                // Exactly as large as asked for, so that a sanitizer sees what goes past it.
                block.shared =
                    std::vector<std::byte>(dynamic_shared_bytes + kAlignment, std::byte{0xff});
                const auto at = reinterpret_cast<uintptr_t>(block.shared.data());
                block.shared_begin = block.shared.data() + (kAlignment - at % kAlignment);
                block.shared_bytes = dynamic_shared_bytes;
                block.copied.assign(dynamic_shared_bytes / kGranule + 1, {});
                block.landed = 0;
                for (size_t i = 0; i < block.count; ++i)
                    prepare(*block.threads[i], {static_cast<unsigned>(i % size.x),
                                                static_cast<unsigned>(i / size.x % size.y),
                                                static_cast<unsigned>(i / size.x / size.y)});
                run_block();
                if (block.failure) std::rethrow_exception(std::exchange(block.failure, {}));
            }
}

std::byte* dynamic_shared() {
    return block.shared_begin;
}

void sync_block(int barrier, unsigned threads) {
    if (barrier < 0 || barrier >= static_cast<int>(kBarriers)) throw Error("no such barrier");
    block.running->barrier = barrier;
    block.running->barrier_threads = threads;
    wait(State::at_block);
}

void sync_warp(uint32_t mask) {
    if (!(mask >> lane() & 1)) throw Error("a lane waits for a warp that it is not part of");
    block.running->mask = mask;
    wait(State::at_warp);
}

void yield() {
    wait(State::spinning);
}

unsigned linear_thread() {
    return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
}

unsigned lane() {
    return linear_thread() % kWarp;
}

void exchange(const void* given, size_t bytes, uint32_t mask) {
    if (bytes > kExchangeBytes) throw Error("too much to exchange");
    Thread& self = *block.running;
    self.parity ^= 1;
    std::memcpy(
        block.warps[linear_thread() / kWarp].given[static_cast<size_t>(self.parity)][lane()].data(),
        given, bytes);
    sync_warp(mask);
}

const std::byte* of_lane(unsigned l) {
    return block.warps[linear_thread() / kWarp]
        .given[static_cast<size_t>(block.running->parity)][l % kWarp]
        .data();
}

void start_copy(const Pending& copy) {
    if (reinterpret_cast<uintptr_t>(copy.to) % (copy.bytes + copy.zeros) != 0 ||
        (copy.bytes > 0 && reinterpret_cast<uintptr_t>(copy.from) % (copy.bytes + copy.zeros) != 0))
        throw Error("a misaligned asynchronous copy");
    std::memset(copy.to, 0xff, copy.bytes + copy.zeros);
    if (Copied* const copied = copied_at(copy.to)) copied->under_way = true;
    block.running->open.push_back(copy);
}

void commit_copies(std::function<void()> then) {
    block.running->groups.push_back({std::move(block.running->open), std::move(then)});
    block.running->open.clear();
}

void wait_copies(int groups_left) {
    while (block.running->groups.size() > static_cast<size_t>(groups_left))
        land_first_group(*block.running);
}

Products& products() {
    return block.running->products;
}

void fence_for_products() {
    block.running->fenced = block.landed;
}

void start_product(const Product& product) {
    block.running->products.start(product, linear_thread() % 128, read_for_product);
}

void wait_products(int groups_left) {
    block.running->products.wait(groups_left, linear_thread() % 128, read_for_product);
}

}  // namespace emulator
