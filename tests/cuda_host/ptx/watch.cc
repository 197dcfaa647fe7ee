/*
 * Who touched a word of memory last: two threads that do so with nothing between them, one of them writing, race on a
 * GPU, whatever the order in which they run here. Between threads of a block stands a barrier; between blocks of a
 * launch stands nothing. To write what is there already is no race in device memory: blocks may report the same fault.
 */
#include "tests/cuda_host/ptx/ptx.h"

#include <memory>
#include <unordered_map>

using namespace ptx;

namespace {

enum { WORD_BYTES = 2, PAGE_WORDS = 1024, N_RECENT = 64, MANY = -1, MOST_THREADS = 1 << 18 };

/* By phase (cuda_host_now): the last write, the last read, and the last read in a block before that. */
struct touches {
    uint64_t written, read, read_before;
    int16_t writer, reader; /* threads; MANY in that phase */
};

/* Not of the thread that runs, and since the time from which nothing stands between. */
bool races(uint64_t phase, int thread, const cuda_host_time &now, uint64_t since) {
    if (phase < since) return false;
    return phase < now.block_began || (phase == now.phase && thread != (int)threadIdx.x);
}

void touch(const instruction *i, const slot *slots, touches *t, uint64_t since, bool writes) {
    cuda_host_time now = cuda_host_now();
    int me = (int)threadIdx.x;
    if (races(t->written, t->writer, now, since))
        fail(i, slots, "%s what another thread writes, with no barrier between", writes ? "writes" : "reads");
    if (writes && (races(t->read, t->reader, now, since) || races(t->read_before, MANY, now, since)))
        fail(i, slots, "writes what another thread reads, with no barrier between");
    if (writes) {
        t->written = now.phase;
        t->writer = (int16_t)me;
        return;
    }
    if (t->read < now.block_began) t->read_before = t->read;
    t->reader = (int16_t)(t->read == now.phase && t->reader != me ? MANY : me);
    t->read = now.phase;
}

/* The words of a page of addresses; made when first asked for, all 0: touched before everything. */
touches *words_of(uint64_t page) {
    static std::unordered_map<uint64_t, std::unique_ptr<touches[]>> pages;
    static struct {
        uint64_t page;
        touches *words;
    } recent[N_RECENT];
    auto &last = recent[page % N_RECENT];
    if (last.page != page || !last.words) {
        std::unique_ptr<touches[]> &words = pages[page];
        if (!words) words = std::make_unique<touches[]>(PAGE_WORDS);
        last = {page, words.get()};
    }
    return last.words;
}

void touch_words(const instruction *i, const slot *slots, const void *bytes, size_t n_bytes, uint64_t since,
                 bool writes) {
    uint64_t begin = reinterpret_cast<uint64_t>(bytes);
    for (uint64_t word = begin / WORD_BYTES; word <= (begin + n_bytes - 1) / WORD_BYTES; word++)
        touch(i, slots, &words_of(word / PAGE_WORDS)[word % PAGE_WORDS], since, writes);
}

} // namespace

void ptx::watch_shared(const instruction *i, const slot *slots, const void *bytes, size_t n_bytes, bool writes) {
    touch_words(i, slots, bytes, n_bytes, cuda_host_now().block_began, writes);
}

void ptx::watch_device(const instruction *i, const slot *slots, const void *bytes, size_t n_bytes, bool writes) {
    if ((uint64_t)gridDim.x * gridDim.y * blockDim.x > MOST_THREADS) return; /* 32 bytes a word are too many then */
    touch_words(i, slots, bytes, n_bytes, cuda_host_now().launch_began, writes);
}
