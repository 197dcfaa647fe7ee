#include "tests/cuda_host/nccl_group.h"

#include "tests/cuda_host/cuda_host.h"

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <map>
#include <new>
#include <poll.h>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

namespace {

enum { MAX_RANKS = 64, N_TURN = 2 };
const size_t header_bytes = (size_t)1 << 20, part_bytes = (size_t)256 << 20; /* only what is written takes memory */

enum class presence { absent, here, left };

struct member {
    std::atomic<presence> now;
    std::atomic<int64_t> n_given;
    int device;
    nccl_call calls[N_TURN];
};

std::map<std::string, int> listening; /* sockets of the ids that this process made */

} // namespace

struct nccl_shared {
    std::atomic<int> n_joined;
    int size;
    member members[MAX_RANKS];
};

char nccl_last_error[256];

ncclResult_t nccl_failed(ncclResult_t result, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(nccl_last_error, sizeof nccl_last_error, format, arguments);
    va_end(arguments);
    return result;
}

static double seconds() {
    timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double longest_wait() { return (double)cuda_host_setting("LEMOE_CUDA_HOST_SECONDS", 300); }

/* ---- how they meet: whoever made the id hands the memory to the others through a socket of that name ---- */

static socklen_t address_of(const std::string &name, sockaddr_un *out) {
    *out = {};
    out->sun_family = AF_UNIX; /* a name behind NUL: in no file system */
    memcpy(out->sun_path + 1, name.data(), name.size());
    return (socklen_t)(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

ncclResult_t nccl_group_name(char *text, size_t text_bytes) {
    static int n_made;
    sockaddr_un address;
    timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)snprintf(text, text_bytes, "lemoe-nccl-%ld-%d-%lx", (long)getpid(), n_made++, (long)now.tv_nsec);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t length = address_of(text, &address);
    bool listens = listener >= 0 && bind(listener, reinterpret_cast<sockaddr *>(&address), length) == 0 &&
                   listen(listener, MAX_RANKS) == 0;
    if (!listens) return nccl_failed(ncclSystemError, "no socket to meet at: %s", strerror(errno));
    listening[text] = listener;
    return ncclSuccess;
}

union control { /* room for one file descriptor, aligned */
    cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
};

static msghdr message_of(iovec *byte, control *ancillary) {
    msghdr message = {};
    message.msg_iov = byte;
    message.msg_iovlen = 1;
    message.msg_control = ancillary->room;
    message.msg_controllen = sizeof ancillary->room;
    return message;
}

static bool hand_over(int connection, int file) {
    char nothing = 0;
    iovec byte = {&nothing, 1};
    control ancillary = {};
    msghdr message = message_of(&byte, &ancillary);
    cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof file);
    memcpy(CMSG_DATA(header), &file, sizeof file);
    return sendmsg(connection, &message, MSG_NOSIGNAL) == 1;
}

/* The file that is handed over, or below 0. */
static int receive_file(int connection) {
    char nothing = 0;
    int file = -1;
    iovec byte = {&nothing, 1};
    control ancillary = {};
    msghdr message = message_of(&byte, &ancillary);
    timeval limit = {(time_t)longest_wait(), 0};
    (void)setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (recvmsg(connection, &message, MSG_CMSG_CLOEXEC) != 1) return -1;
    cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS) memcpy(&file, CMSG_DATA(header), sizeof file);
    return file;
}

static size_t shared_bytes(int size) { return header_bytes + (size_t)size * N_TURN * part_bytes; }

/* Waits for the others at the socket, and gives each the memory. */
static ncclResult_t invite(int listener, int size, int file) {
    double limit = seconds() + longest_wait();
    for (int n = 1; n < size; n++) {
        pollfd waiting = {listener, POLLIN, 0};
        double left = limit - seconds();
        if (left <= 0 || poll(&waiting, 1, (int)(left * 1000)) != 1)
            return nccl_failed(ncclSystemError, "%d of %d ranks came", n, size);
        int connection = accept(listener, nullptr, nullptr);
        bool is_given = connection >= 0 && hand_over(connection, file);
        (void)close(connection);
        if (!is_given) return nccl_failed(ncclSystemError, "a rank went away: %s", strerror(errno));
    }
    return ncclSuccess;
}

static int visit(const std::string &name) {
    sockaddr_un address;
    socklen_t length = address_of(name, &address);
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), file = -1;
    if (connection >= 0 && connect(connection, reinterpret_cast<sockaddr *>(&address), length) == 0)
        file = receive_file(connection);
    (void)close(connection);
    return file;
}

static ncclResult_t host_memory(nccl_group *group, int listener) {
    group->memory_file = memfd_create("nccl_host", MFD_CLOEXEC);
    bool is_there = group->memory_file >= 0 && ftruncate(group->memory_file, (off_t)shared_bytes(group->size)) == 0 &&
                    pwrite(group->memory_file, &group->size, sizeof group->size, offsetof(nccl_shared, size)) > 0;
    if (!is_there) return nccl_failed(ncclSystemError, "no memory to share: %s", strerror(errno));
    return invite(listener, group->size, group->memory_file);
}

static ncclResult_t find_memory(nccl_group *group, const char *name) {
    auto own = listening.find(name);
    if (own != listening.end()) {
        ncclResult_t result = host_memory(group, own->second);
        (void)close(own->second);
        listening.erase(own);
        return result;
    }
    group->memory_file = visit(name);
    if (group->memory_file < 0) return nccl_failed(ncclSystemError, "the rank that made the id is not there");
    return ncclSuccess;
}

/* ---- who is there ---- */

static flock lock_of(int rank, short type) {
    flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = rank;
    lock.l_len = 1;
    return lock;
}

/* A process holds its lock as long as it lives. */
static bool is_alive(const nccl_group *group, int rank) {
    flock lock = lock_of(rank, F_WRLCK);
    return rank == group->rank || fcntl(group->memory_file, F_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

static bool is_gone(const nccl_group *group, int rank) {
    presence now = group->shared->members[rank].now;
    return now == presence::left || (now == presence::here && !is_alive(group, rank));
}

static ncclResult_t wait_for_all(nccl_group *group) {
    double limit = seconds() + longest_wait();
    while (group->shared->n_joined < group->size) {
        for (int r = 0; r < group->size; r++)
            if (is_gone(group, r)) return nccl_failed(ncclRemoteError, "rank %d went away", r);
        if (seconds() > limit)
            return nccl_failed(ncclSystemError, "%d of %d ranks came", (int)group->shared->n_joined, group->size);
        timespec moment = {0, 1000000};
        (void)nanosleep(&moment, nullptr);
    }
    return ncclSuccess;
}

static ncclResult_t check_devices(const nccl_group *group) {
    for (int i = 0; i < group->size; i++)
        for (int j = 0; j < i; j++)
            if (group->shared->members[i].device == group->shared->members[j].device)
                return nccl_failed(ncclInvalidUsage,
                                   "Duplicate GPU detected : rank %d and rank %d both on CUDA device %d", j, i,
                                   group->shared->members[i].device);
    return ncclSuccess;
}

ncclResult_t nccl_group_join(nccl_group *group, const char *name, int rank, int size) {
    group->rank = rank;
    group->size = size;
    if (size > MAX_RANKS || rank < 0 || rank >= size)
        return nccl_failed(ncclInvalidArgument, "rank %d of %d", rank, size);
    ncclResult_t result = find_memory(group, name);
    if (result != ncclSuccess) return result;
    void *pages =
        mmap(nullptr, shared_bytes(size), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, group->memory_file, 0);
    if (pages == MAP_FAILED) return nccl_failed(ncclSystemError, "no memory to share: %s", strerror(errno));
    group->shared = static_cast<nccl_shared *>(pages);
    if (group->shared->size != size) return nccl_failed(ncclInvalidArgument, "ranks name different sizes");
    member &own = group->shared->members[rank];
    presence before = presence::absent;
    flock lock = lock_of(rank, F_WRLCK);
    own.device = cuda_host_device();
    bool is_mine =
        fcntl(group->memory_file, F_SETLK, &lock) == 0 && own.now.compare_exchange_strong(before, presence::here);
    if (!is_mine) return nccl_failed(ncclInvalidUsage, "two processes call themselves rank %d", rank);
    group->shared->n_joined++;
    result = wait_for_all(group);
    if (result == ncclSuccess) result = check_devices(group);
    if (result != ncclSuccess) nccl_group_leave(group);
    return result;
}

void nccl_group_leave(nccl_group *group) { group->shared->members[group->rank].now = presence::left; }

nccl_group::~nccl_group() {
    if (shared) (void)munmap(shared, shared_bytes(size));
    if (memory_file >= 0) (void)close(memory_file);
}

/* ---- collectives ---- */

static char *part_of(const nccl_group *group, int64_t number, int rank) {
    size_t index = (size_t)rank * N_TURN + (size_t)(number % N_TURN);
    return reinterpret_cast<char *>(group->shared) + header_bytes + index * part_bytes;
}

/* Nobody still reads what is overwritten: this rank took part in the last collective, to which all others gave after
 * they had taken from the one before. */
void nccl_group_give(nccl_group *group, int64_t number, const nccl_call &call, const void *bytes, size_t n_bytes) {
    member &own = group->shared->members[group->rank];
    if (n_bytes > part_bytes) cuda_host_die("%s of %zu bytes: more than the emulation carries", call.name, n_bytes);
    own.calls[number % N_TURN] = call;
    if (n_bytes) memcpy(part_of(group, number, group->rank), bytes, n_bytes);
    own.n_given = number + 1;
}

bool nccl_group_is_there(const nccl_group *group, int64_t number) {
    for (int r = 0; r < group->size; r++)
        if (group->shared->members[r].n_given <= number) return false;
    return true;
}

const void *nccl_group_part(const nccl_group *group, int64_t number, int rank) { return part_of(group, number, rank); }

static void describe(const nccl_call &call, char *text, size_t text_bytes) {
    (void)snprintf(text, text_bytes, "%s of %lu of type %d (op %d, root %d)", call.name, (unsigned long)call.count,
                   call.type, call.op, call.root);
}

void nccl_group_check_alike(const nccl_group *group, int64_t number) {
    const nccl_call &own = group->shared->members[group->rank].calls[number % N_TURN];
    for (int r = 0; r < group->size; r++) {
        const nccl_call &other = group->shared->members[r].calls[number % N_TURN];
        char own_text[96], other_text[96];
        if (strcmp(own.name, other.name) == 0 && own.count == other.count && own.type == other.type &&
            own.op == other.op && own.root == other.root)
            continue;
        describe(own, own_text, sizeof own_text);
        describe(other, other_text, sizeof other_text);
        cuda_host_die("collective %ld: rank %d calls %s, rank %d calls %s", (long)number, group->rank, own_text, r,
                      other_text);
    }
}

bool nccl_group_is_lost(nccl_group *group, int64_t number) {
    double now = seconds();
    if (cuda_host_setting("LEMOE_CUDA_HOST_DEAF", 0) == 1) return false;
    if (group->is_lost || now < group->looked + 0.02) return group->is_lost;
    group->looked = now;
    for (int r = 0; r < group->size; r++)
        if (group->shared->members[r].n_given <= number && is_gone(group, r)) {
            (void)nccl_failed(ncclRemoteError, "rank %d is gone", r);
            group->is_lost = true;
        }
    return group->is_lost;
}
