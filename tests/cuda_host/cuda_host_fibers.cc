/*
 * A launch on the CPU: blocks one after the other, the threads of a block as fibers. A thread runs until it reaches a
 * barrier or an exchange within its warp; when all of the block, or of the warp, are there, they go on. Threads that
 * wait for ever, or end while others wait, end the process with the kernel's name: on a GPU that is undefined.
 */
#include "tests/cuda_host/cuda_host.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

enum { MAX_THREADS = 1024, WARP = 32, STACK_BYTES = 64 << 10, SHARED_BYTES = 227 << 10, CANARY_BYTES = 256 };
enum class state { ready, at_barrier, at_exchange, done };

struct fiber {
    void *stack_pointer;
    unsigned index;
    state now;
    int turn; /* of the two sets of exchanged values */
};

struct warp {
    unsigned char value[2][WARP][8];
    int n_waiting;
};

fiber fibers[MAX_THREADS];
warp warps[MAX_THREADS / WARP];
fiber *current;
void *scheduler;
unsigned char *stacks;
alignas(256) unsigned char shared[SHARED_BYTES + CANARY_BYTES];
const std::function<void()> *thread_body;
const char *kernel_name;
bool is_running;
size_t n_shared;
cuda_host_time now;

} // namespace

/* Saves the registers that a call keeps and the stack pointer, and goes on with another stack. */
extern "C" void cuda_host_switch(void **save, void *next);
asm(R"(
.text
.globl cuda_host_switch
.hidden cuda_host_switch
.type cuda_host_switch, @function
cuda_host_switch:
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
.size cuda_host_switch, .-cuda_host_switch
)");

static void leave(state now) {
    current->now = now;
    cuda_host_switch(&current->stack_pointer, scheduler);
    threadIdx = dim3(current->index, 0, 0);
}

static void fiber_main() {
    (*thread_body)();
    leave(state::done);
    cuda_host_die("%s: a thread runs on after its end", kernel_name);
}

static void start(fiber *f, unsigned index) {
    void **top = reinterpret_cast<void **>(stacks + (size_t)(index + 1) * STACK_BYTES);
    top[-1] = nullptr; /* where fiber_main would return to */
    top[-2] = reinterpret_cast<void *>(&fiber_main);
    f->stack_pointer = top - 8; /* six registers below */
    f->index = index;
    f->now = state::ready;
    f->turn = 0;
}

static void resume(fiber *f) {
    current = f;
    threadIdx = dim3(f->index, 0, 0);
    cuda_host_switch(&scheduler, f->stack_pointer);
}

void *cuda_host_shared() { return shared; }
size_t cuda_host_shared_bytes() { return n_shared; }
cuda_host_time cuda_host_now() { return now; }
int cuda_host_lane() { return (int)(current->index % WARP); }
void __syncthreads() { leave(state::at_barrier); }

/* Two sets of values in turn: a lane that is one exchange ahead overwrites nothing that another still reads. */
void cuda_host_exchange(unsigned mask, const void *value, size_t n_bytes, int lane, void *out) {
    warp *w = &warps[current->index / WARP];
    int turn = current->turn;
    if (mask != 0xffffffffu || n_bytes > 8) cuda_host_die("%s: an exchange of part of a warp", kernel_name);
    memcpy(w->value[turn][current->index % WARP], value, n_bytes);
    current->turn = !turn;
    w->n_waiting++;
    leave(state::at_exchange);
    memcpy(out, w->value[turn][lane & (WARP - 1)], n_bytes);
}

/* One turn of every thread that can run; whether there was one. */
static bool run_ready(unsigned n, bool is_descending) {
    bool any = false;
    for (unsigned i = 0; i < n; i++) {
        fiber *f = &fibers[is_descending ? n - 1 - i : i];
        if (f->now != state::ready) continue;
        resume(f);
        any = true;
        warp *w = &warps[f->index / WARP];
        if (w->n_waiting < WARP) continue;
        w->n_waiting = 0;
        for (unsigned lane = 0; lane < WARP; lane++) fibers[f->index / WARP * WARP + lane].now = state::ready;
    }
    return any;
}

static unsigned count(unsigned n, state now) {
    unsigned total = 0;
    for (unsigned i = 0; i < n; i++) total += fibers[i].now == now;
    return total;
}

/* NaN wherever the block has not written, and a canary behind. */
static void prepare_shared(size_t n_bytes) { memset(shared, 0xff, n_bytes + CANARY_BYTES); }

static void check_canary(size_t n_bytes) {
    for (size_t i = 0; i < CANARY_BYTES; i++)
        if (shared[n_bytes + i] != 0xff) cuda_host_die("%s: writes behind its shared memory", kernel_name);
}

static void run_block(unsigned n, size_t shared_bytes, bool is_descending) {
    prepare_shared(shared_bytes);
    n_shared = shared_bytes;
    now.block_began = ++now.phase;
    for (unsigned i = 0; i < n; i++) start(&fibers[i], i);
    for (unsigned w = 0; w < n / WARP; w++) warps[w].n_waiting = 0;
    for (;;) {
        while (run_ready(n, is_descending)) {
        }
        unsigned at_barrier = count(n, state::at_barrier);
        if (count(n, state::done) == n) break;
        if (at_barrier < n) cuda_host_die("%s: %u of %u threads wait at a barrier", kernel_name, at_barrier, n);
        for (unsigned i = 0; i < n; i++) fibers[i].now = state::ready;
        now.phase++;
    }
    check_canary(shared_bytes);
}

void cuda_host_run_grid(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes, bool is_descending,
                        const std::function<void()> &body) {
    if (is_running) cuda_host_die("%s: launched by a kernel", kernel);
    if (!stacks) {
        void *pages = mmap(nullptr, (size_t)MAX_THREADS * STACK_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (pages == MAP_FAILED) cuda_host_die("no memory for the threads of a block");
        stacks = static_cast<unsigned char *>(pages);
    }
    kernel_name = kernel;
    thread_body = &body;
    blockDim = block;
    gridDim = grid;
    is_running = true;
    now.launch_began = now.phase + 1;
    for (unsigned y = 0; y < grid.y; y++)
        for (unsigned x = 0; x < grid.x; x++) {
            blockIdx = dim3(x, y, 0);
            run_block(block.x, shared_bytes, is_descending);
        }
    is_running = false;
}
