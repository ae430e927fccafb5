// The fibers behind the emulated launch. x86-64 and aarch64.
#include <cstdio>
#include <memory>
#include <vector>

#include "backend/cuda/launch.cuh"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr size_t kStackBytes = 64 << 10;
constexpr unsigned kLanes = 32;

enum class State { kReady, kAtBarrier, kAtShuffle, kDone };

struct Fiber {
  void* stack_pointer = nullptr;
  State state = State::kReady;
  float given = 0;     // what this lane brought to the shuffle
  float received = 0;  // what its partner brought
  int lanes = 0;
  std::unique_ptr<char[]> stack;
};

std::vector<Fiber> fibers;
size_t current = 0;
void* scheduler_pointer = nullptr;
void (*thread_body)(void*) = nullptr;
void* thread_context = nullptr;

// Saves the callee-saved registers on this stack and continues on the other one.
extern "C" void quern_switch_stack(void** save, void* load);
#if defined(__x86_64__)
asm(R"(
.text
.globl quern_switch_stack
.type quern_switch_stack, @function
quern_switch_stack:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size quern_switch_stack, .-quern_switch_stack
)");
constexpr size_t kSavedWords = 6;
#else
#error "the CUDA emulation knows x86-64 only"
#endif

void yield(State state) {
  fibers[current].state = state;
  quern_switch_stack(&fibers[current].stack_pointer, scheduler_pointer);
}

void fiber_main() {
  thread_body(thread_context);
  yield(State::kDone);
  std::abort();
}

void prepare(Fiber& fiber) {
  if (!fiber.stack) fiber.stack = std::make_unique<char[]>(kStackBytes);
  const uintptr_t top = (reinterpret_cast<uintptr_t>(fiber.stack.get()) + kStackBytes) & ~uintptr_t{15};
  // The return address stands so that fiber_main sees the alignment of a called function.
  void** at = reinterpret_cast<void**>(top) - 2;
  *at = reinterpret_cast<void*>(&fiber_main);
  fiber.stack_pointer = at - kSavedWords;
  fiber.state = State::kReady;
}

[[noreturn]] void stuck(const char* what) {
  std::fprintf(stderr, "CUDA emulation: block (%u, %u): %s\n", blockIdx.x, blockIdx.y, what);
  std::abort();
}

// Lets a warp go on whose lanes have all come to a shuffle. Returns whether it did.
bool release_warp(size_t first) {
  size_t waiting = 0;
  for (size_t lane = 0; lane < kLanes; ++lane) waiting += fibers[first + lane].state == State::kAtShuffle;
  if (waiting == 0) return false;
  if (waiting != kLanes) return false;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    Fiber& fiber = fibers[first + lane];
    fiber.received = fibers[first + (lane ^ static_cast<size_t>(fiber.lanes))].given;
  }
  for (size_t lane = 0; lane < kLanes; ++lane) fibers[first + lane].state = State::kReady;
  return true;
}

void run_block(size_t count) {
  for (size_t i = 0; i < count; ++i) prepare(fibers[i]);
  while (true) {
    size_t done = 0, at_barrier = 0;
    for (current = 0; current < count; ++current) {
      if (fibers[current].state == State::kReady) {
        threadIdx = dim3(static_cast<unsigned>(current));
        quern_switch_stack(&scheduler_pointer, fibers[current].stack_pointer);
      }
      done += fibers[current].state == State::kDone;
      at_barrier += fibers[current].state == State::kAtBarrier;
    }
    if (done == count) return;
    bool progress = false;
    if (at_barrier + done == count) {
      if (done != 0) stuck("some threads ended while others wait at __syncthreads");
      for (size_t i = 0; i < count; ++i) fibers[i].state = State::kReady;
      progress = true;
    }
    for (size_t warp = 0; warp + kLanes <= count; warp += kLanes) progress = release_warp(warp) || progress;
    if (!progress) stuck("threads wait for others that never come (a divergent barrier or shuffle)");
  }
}

}  // namespace

void __syncthreads() { yield(State::kAtBarrier); }

float __shfl_xor_sync(unsigned mask, float value, int lanes) {
  if (mask != 0xFFFFFFFFu) stuck("only full-mask shuffles are emulated");
  fibers[current].given = value;
  fibers[current].lanes = lanes;
  const size_t self = current;
  yield(State::kAtShuffle);
  return fibers[self].received;
}

namespace quern::cuda {

void run_grid(dim3 grid, dim3 block, void (*body)(void*), void* context) {
  if (grid.x == 0 || grid.y == 0 || grid.y > 65535 || block.x == 0 || block.x > 1024 || block.x % kLanes != 0)
    stuck("a launch that a GPU would refuse, or a block of broken warps");
  if (fibers.size() < block.x) fibers.resize(block.x);
  gridDim = grid, blockDim = block, thread_body = body, thread_context = context;
  for (unsigned y = 0; y < grid.y; ++y)
    for (unsigned x = 0; x < grid.x; ++x) {
      blockIdx = dim3(x, y);
      run_block(block.x);
    }
}

}  // namespace quern::cuda
