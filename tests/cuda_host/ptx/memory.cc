/*
 * Instructions that read and write memory, branch, or wait for other threads. Every access is checked as a GPU or its
 * tools would: at a multiple of its size, and whole within one block of device memory, the block's shared memory, or
 * the arguments.
 */
#include "tests/cuda_host/ptx/ptx.h"

using namespace ptx;

namespace {

/* ---- where an access goes ---- */

enum class space { arguments, shared, device };

bool is_constant(const slot *slots, uint64_t address, size_t n_bytes) {
    for (const auto &block : get<const launch *>(slots[LAUNCH])->what->of->data) {
        uint64_t begin = reinterpret_cast<uint64_t>(block.data());
        if (address >= begin && address + n_bytes <= begin + block.size()) return true;
    }
    return false;
}

unsigned char *in_arguments(const instruction *i, const slot *slots, uint64_t at, size_t n_bytes) {
    const std::vector<unsigned char> &arguments = get<const launch *>(slots[LAUNCH])->arguments;
    if (at + n_bytes > arguments.size()) fail(i, slots, "reads behind its arguments");
    return const_cast<unsigned char *>(arguments.data() + at);
}

unsigned char *in_shared(const instruction *i, const slot *slots, uint64_t at, size_t n_bytes) {
    if (at + n_bytes > cuda_host_shared_bytes())
        fail(i, slots, "%zu bytes at %llu, and shared memory has %zu", n_bytes, (unsigned long long)at,
             cuda_host_shared_bytes());
    return static_cast<unsigned char *>(cuda_host_shared()) + at;
}

unsigned char *in_device(const instruction *i, const slot *slots, uint64_t at, size_t n_bytes) {
    unsigned char *address = reinterpret_cast<unsigned char *>(at);
    if (!cuda_host_in_block(address, n_bytes) && !is_constant(slots, at, n_bytes))
        fail(i, slots, "%zu bytes at %#llx, outside of device memory", n_bytes, (unsigned long long)at);
    return address;
}

template <space s> unsigned char *place(const instruction *i, const slot *slots, int operand, size_t n_bytes) {
    const slot &base = slots[i->operand[operand]];
    uint64_t at = (s == space::shared ? get<uint32_t>(base) : get<uint64_t>(base)) + (uint64_t)(int64_t)i->offset;
    if (at % n_bytes != 0) fail(i, slots, "%zu bytes at %#llx, no multiple", n_bytes, (unsigned long long)at);
    if (s == space::arguments) return in_arguments(i, slots, at, n_bytes);
    return s == space::shared ? in_shared(i, slots, at, n_bytes) : in_device(i, slots, at, n_bytes);
}

/* Whole numbers fill the register, by their sign or by zeros. */
template <typename T> void put_filled(slot &to, T value) {
    if constexpr (std::is_integral_v<T>)
        put<int64_t>(to, (int64_t)value);
    else
        put<T>(to, value);
}

template <space s, typename T, int n> const instruction *load(const instruction *i, slot *slots) {
    T values[n];
    const unsigned char *from = place<s>(i, slots, n, sizeof values);
    if (s == space::shared) watch_shared(i, slots, from, sizeof values, false);
    if (s == space::device) watch_device(i, slots, from, sizeof values, false);
    memcpy(values, from, sizeof values);
    for (int k = 0; k < n; k++) put_filled<T>(slots[i->operand[k]], values[k]);
    return i + 1;
}

template <space s, typename T, int n> const instruction *store(const instruction *i, slot *slots) {
    T values[n];
    for (int k = 0; k < n; k++) values[k] = get<T>(slots[i->operand[k + 1]]);
    unsigned char *to = place<s>(i, slots, 0, sizeof values);
    if (s == space::shared) watch_shared(i, slots, to, sizeof values, true);
    if (s == space::device && memcmp(to, values, sizeof values) != 0) watch_device(i, slots, to, sizeof values, true);
    memcpy(to, values, sizeof values);
    return i + 1;
}

template <space s, typename T, int n> void add_accesses(meanings *table, const std::string &where, const char *type) {
    std::string name = where + (n == 1 ? "." : n == 2 ? ".v2." : ".v4.") + type;
    (*table)["ld." + name] = {load<s, T, n>, n + 1};
    if (s != space::arguments) (*table)["st." + name] = {store<s, T, n>, n + 1};
}

template <typename T, int n> void add_spaces(meanings *table, const char *type) {
    add_accesses<space::arguments, T, n>(table, "param", type);
    add_accesses<space::shared, T, n>(table, "shared", type);
    add_accesses<space::device, T, n>(table, "global", type);
    add_accesses<space::device, T, n>(table, "global.nc", type);
}

template <typename T> void add_widths(meanings *table, const char *type) {
    add_spaces<T, 1>(table, type);
    if constexpr (sizeof(T) <= 8) add_spaces<T, 2>(table, type);
    if constexpr (sizeof(T) <= 4) add_spaces<T, 4>(table, type);
}

/* ---- where a thread goes on, and what it waits for ---- */

const instruction *branch(const instruction *i, slot *) { return i + i->jump; }
const instruction *branch_if(const instruction *i, slot *slots) {
    return get<bool>(slots[i->operand[0]]) ? i + i->jump : i + 1;
}
const instruction *branch_unless(const instruction *i, slot *slots) {
    return get<bool>(slots[i->operand[0]]) ? i + 1 : i + i->jump;
}
const instruction *end(const instruction *, slot *) { return nullptr; }

const instruction *barrier(const instruction *i, slot *slots) {
    if (get<uint32_t>(slots[i->operand[0]]) != 0) fail(i, slots, "a barrier other than 0");
    __syncthreads();
    return i + 1;
}

/* Operands: result, whether there was such a lane; value, which lane, bounds of the group, members. */
template <bool is_butterfly> const instruction *shuffle(const instruction *i, slot *slots) {
    uint32_t value = get<uint32_t>(slots[i->operand[2]]), which = get<uint32_t>(slots[i->operand[3]]), out;
    if (get<uint32_t>(slots[i->operand[4]]) != 31) fail(i, slots, "an exchange in a part of the warp");
    int lane = (int)(is_butterfly ? (uint32_t)cuda_host_lane() ^ which : which) & 31;
    cuda_host_exchange(get<uint32_t>(slots[i->operand[5]]), &value, sizeof value, lane, &out);
    put<uint32_t>(slots[i->operand[0]], out);
    put<bool>(slots[i->operand[1]], true);
    return i + 1;
}

} // namespace

void ptx::add_memory(meanings *table) {
    add_widths<int8_t>(table, "s8");
    add_widths<uint8_t>(table, "u8");
    add_widths<int16_t>(table, "s16");
    add_widths<uint16_t>(table, "u16");
    add_widths<int32_t>(table, "s32");
    add_widths<uint32_t>(table, "u32");
    add_widths<int64_t>(table, "s64");
    add_widths<uint64_t>(table, "u64");
    add_widths<float>(table, "f32");
    add_widths<double>(table, "f64");
    (*table)["bra"] = (*table)["bra.uni"] = {branch, 0};
    (*table)["@"] = {branch_if, 1}; /* what stands before a guarded branch, and before the rest: read.cc */
    (*table)["@!"] = {branch_unless, 1};
    (*table)["ret"] = {end, 0};
    (*table)["bar.sync"] = {barrier, 1};
    (*table)["shfl.sync.bfly.b32"] = {shuffle<true>, 6};
    (*table)["shfl.sync.idx.b32"] = {shuffle<false>, 6};
}
