/*
 * Launches by PTX. LEMOE_CUDA_HOST_PTX names the files, with colons between; a kernel's function leads to its name, by
 * the symbols of this module, and the name to the PTX. LEMOE_CUDA_HOST_PTX_RAN names a file to which a process adds,
 * for each kernel, how many of its instructions it has executed, and of how many.
 */
#include "tests/cuda_host/ptx/ptx.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <elf.h>
#include <fstream>
#include <iterator>
#include <sstream>

using namespace ptx;

namespace {

/* ---- from a function to its name ---- */

template <typename T> const T *inside(const std::vector<char> &file, size_t offset) {
    if (offset + sizeof(T) > file.size()) cuda_host_die("ptx: the module's file is damaged");
    return reinterpret_cast<const T *>(file.data() + offset);
}

/* nvcc drops the mark of a name that only its file knows. */
std::string as_nvcc_has_it(const std::string &name) { return name.rfind("_ZL", 0) == 0 ? "_Z" + name.substr(3) : name; }

/* The module's functions, also those that only their file knows. */
std::map<const void *, std::string> read_symbols() {
    Dl_info self;
    if (!dladdr(reinterpret_cast<const void *>(&cuda_host_die), &self)) cuda_host_die("ptx: dladdr");
    std::ifstream stream(self.dli_fname, std::ios::binary);
    std::vector<char> file{std::istreambuf_iterator<char>(stream), {}};
    const Elf64_Ehdr *head = inside<Elf64_Ehdr>(file, 0);
    std::map<const void *, std::string> names;
    for (size_t s = 0; s < head->e_shnum; s++) {
        const Elf64_Shdr *table = inside<Elf64_Shdr>(file, head->e_shoff + s * sizeof(Elf64_Shdr));
        if (table->sh_type != SHT_SYMTAB) continue;
        const Elf64_Shdr *strings = inside<Elf64_Shdr>(file, head->e_shoff + table->sh_link * sizeof(Elf64_Shdr));
        for (size_t i = 0; i < table->sh_size / sizeof(Elf64_Sym); i++) {
            const Elf64_Sym *symbol = inside<Elf64_Sym>(file, table->sh_offset + i * sizeof(Elf64_Sym));
            if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC) continue;
            names[static_cast<const char *>(self.dli_fbase) + symbol->st_value] =
                as_nvcc_has_it(inside<char>(file, strings->sh_offset + symbol->st_name));
        }
    }
    return names;
}

/* ---- what was executed ---- */

void report(const program &whole) {
    const char *name = getenv("LEMOE_CUDA_HOST_PTX_RAN");
    if (!name) return;
    std::ofstream file(name, std::ios::app);
    for (const auto &[kernel_name, k] : whole.kernels) {
        size_t n_ran = 0;
        for (const instruction &i : k.code) n_ran += i.has_run;
        file << kernel_name << ' ' << n_ran << ' ' << k.code.size() - 1 << '\n'; /* without the end that is added */
    }
}

struct everything {
    program whole;
    std::map<const void *, std::string> names;
    everything() {
        std::istringstream files(getenv("LEMOE_CUDA_HOST_PTX"));
        for (std::string file; std::getline(files, file, ':');) read(file, &whole);
        names = read_symbols();
    }
    ~everything() { report(whole); }
};

const kernel *find_kernel(const char *called, const void *function) {
    static const everything all;
    auto name = all.names.find(function);
    if (name == all.names.end()) cuda_host_die("ptx: %s is no function of this module", called);
    auto found = all.whole.kernels.find(name->second);
    if (found == all.whole.kernels.end()) cuda_host_die("ptx: no file has %s", name->second.c_str());
    return &found->second;
}

void run_thread(const launch &l) {
    if (l.what->most_threads && blockDim.x > l.what->most_threads)
        cuda_host_die("%s: blocks of %u threads, and the compiler was promised %zu at most", l.what->name.c_str(),
                      blockDim.x, l.what->most_threads);
    std::vector<slot> slots = l.what->start;
    put(slots[TID_X], threadIdx.x);
    put(slots[NTID_X], blockDim.x);
    put(slots[CTAID_X], blockIdx.x);
    put(slots[CTAID_Y], blockIdx.y);
    put(slots[NCTAID_X], gridDim.x);
    put(slots[NCTAID_Y], gridDim.y);
    put(slots[LAUNCH], &l);
    for (const instruction *i = l.what->code.data(); i; i = i->act(i, slots.data())) i->has_run = true;
}

} // namespace

void ptx::fail(const instruction *at, const slot *slots, const char *format, ...) {
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const kernel *what = get<const launch *>(slots[LAUNCH])->what;
    cuda_host_die("%s:%d: %s: thread %u of block (%u, %u): %s", what->file.c_str(), at->line, what->name.c_str(),
                  get<uint32_t>(slots[TID_X]), get<uint32_t>(slots[CTAID_X]), get<uint32_t>(slots[CTAID_Y]), text);
}

std::function<void()> cuda_host_ptx_thread(const char *called, const void *function,
                                           std::initializer_list<cuda_host_argument> arguments) {
    static const bool is_wanted = getenv("LEMOE_CUDA_HOST_PTX") != nullptr;
    if (!is_wanted) return {};
    launch l = {find_kernel(called, function), {}};
    const kernel *k = l.what;
    size_t n = arguments.size(), i = 0;
    if (n != k->argument_at.size()) cuda_host_die("%s: launched with %zu arguments", k->name.c_str(), n);
    if (n > 0) l.arguments.resize(k->argument_at[n - 1] + k->argument_bytes[n - 1]);
    for (const cuda_host_argument &argument : arguments) {
        if (argument.n_bytes != k->argument_bytes[i])
            cuda_host_die("%s: argument %zu is of another size", k->name.c_str(), i);
        memcpy(&l.arguments[k->argument_at[i++]], argument.value, argument.n_bytes);
    }
    return [l] { run_thread(l); };
}
