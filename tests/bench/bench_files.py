"""How fast a folder's model files can be read, from the disk or from the page cache."""
import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor

PIECE = 16 << 20


def model_files(folder):
    return sorted(entry.path for entry in os.scandir(folder) if entry.name.endswith(".safetensors"))


def n_bytes(paths):
    return sum(os.stat(path).st_size for path in paths)


def pieces(paths):
    return [(path, at) for path in paths for at in range(0, os.stat(path).st_size, PIECE)]


def drop(paths):
    """Asks the system to forget the files' pages; no privilege is needed."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_share(paths):
    """Share of probes, one a piece, that are in the page cache; None where the file system does not tell."""
    found, probes = 0, pieces(paths)
    for path, at in probes:
        with open(path, "rb") as file:
            try:
                found += os.preadv(file.fileno(), [bytearray(1)], at, os.RWF_NOWAIT)
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                    return None
                raise
    return found / len(probes)


def read_seconds(paths, n_thread):
    """Everything once, by that many threads in turn."""
    def read(share):
        buffer = bytearray(PIECE)
        for path, at in share:
            with open(path, "rb", buffering=0) as file:
                os.preadv(file.fileno(), [buffer], at)

    every, begin = pieces(paths), time.perf_counter()
    with ThreadPoolExecutor(n_thread) as pool:
        list(pool.map(read, (every[i::n_thread] for i in range(n_thread))))
    return time.perf_counter() - begin
