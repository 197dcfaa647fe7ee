/*
 * Kernels as nvcc compiles them: its PTX, executed by the threads of the emulated device in place of the text that g++
 * compiled (README.md). Files are read once, into instructions that each know the function that does them.
 */
#ifndef TESTS_CUDA_HOST_PTX_PTX_H
#define TESTS_CUDA_HOST_PTX_PTX_H

#include "tests/cuda_host/cuda_host.h"

#include <map>
#include <string>

namespace ptx {

/* A register. Narrow values lie in its low bytes. */
struct slot {
    alignas(8) unsigned char bytes[8];
};
template <typename T> T get(const slot &from) {
    T value;
    memcpy(&value, from.bytes, sizeof value);
    return value;
}
template <> inline bool get<bool>(const slot &from) { return from.bytes[0] != 0; }
template <typename T> void put(slot &to, T value) { memcpy(to.bytes, &value, sizeof value); }

/* The first slots of every thread: what it is told. Behind them the registers of its kernel, then its constants. */
enum { TID_X, NTID_X, CTAID_X, CTAID_Y, NCTAID_X, NCTAID_Y, LAUNCH, N_TOLD };

struct instruction;
/* Does an instruction, and says which is next; null: the thread ends. */
typedef const instruction *(*action)(const instruction *, slot *);

struct instruction {
    action act;
    uint16_t operand[6]; /* slots in the order of the text: a result first, but of a store the address */
    int32_t offset;      /* added to the address, in bytes */
    int32_t jump;        /* of a branch: instructions from here */
    int line;
    mutable bool has_run;
};

struct program;

struct kernel {
    std::string name, file;
    const program *of;
    std::vector<size_t> argument_at, argument_bytes; /* one behind the other */
    size_t most_threads;                             /* of a block, as the compiler was told; 0: it was not */
    std::vector<instruction> code;
    std::vector<slot> start; /* what the slots of a thread begin with */
};

/* What has been read: kernels by their mangled names, and constants that lie in memory. */
struct program {
    std::map<std::string, kernel> kernels;
    std::vector<std::vector<unsigned char>> data;
};

/* What slot LAUNCH points to. */
struct launch {
    const kernel *what;
    std::vector<unsigned char> arguments;
};

/* Adds what a file holds (read.cc). What is not understood ends the process with file and line. */
void read(const std::string &file, program *into);

/* What each instruction does, by its name, and how many operands it has. */
struct meaning {
    action act;
    int n_operand;
};
typedef std::map<std::string, meaning> meanings;
void add_arithmetic(meanings *table); /* arithmetic.cc */
void add_memory(meanings *table);     /* memory.cc: memory, branches, what threads do together */

/* Notes an access by the thread that runs; a race ends the process (watch.cc). */
void watch_shared(const instruction *i, const slot *slots, const void *bytes, size_t n_bytes, bool writes);
void watch_device(const instruction *i, const slot *slots, const void *bytes, size_t n_bytes, bool writes);

/* Ends the process: file and line of the instruction, the thread, and what is wrong. */
[[noreturn]] void fail(const instruction *at, const slot *slots, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

} // namespace ptx

#endif
