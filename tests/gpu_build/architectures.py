#!/usr/bin/python3
"""architectures.py MODULE: machine code for sm_80 and sm_90, and the intermediate form for later devices, are in it.

Reads the section .nv_fatbin: a header (magic, version, bytes of header and of what follows), then entries, each with
kind (1 intermediate, 2 machine code), its own header's bytes, the payload's bytes, and at 28 the architecture.
"""
import struct
import subprocess
import sys
import tempfile


def section(path):
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run(["objcopy", "-O", "binary", "--only-section=.nv_fatbin", "--set-section-flags", ".nv_fatbin=alloc",
                        path, file.name], check=True)
        return file.read()


def entries(data):
    at = 0
    while at + 16 <= len(data):
        magic, _, header_bytes, n_bytes = struct.unpack_from("<IHHQ", data, at)
        if magic != 0xBA55ED50:
            at += 8  # padding between the files' parts
            continue
        entry, end = at + header_bytes, at + header_bytes + n_bytes
        while entry < end:
            kind, _, entry_header, payload = struct.unpack_from("<HHIQ", data, entry)
            yield kind, struct.unpack_from("<I", data, entry + 28)[0]
            entry += entry_header + payload
        at = end


def main():
    found = {}
    for kind_and_arch in entries(section(sys.argv[1])):
        found[kind_and_arch] = found.get(kind_and_arch, 0) + 1
    names = {f"{'compute' if kind == 1 else 'sm'}_{arch}": n for (kind, arch), n in sorted(found.items())}
    print(", ".join(f"{name} in {n} files" for name, n in names.items()))
    missing = {"sm_80", "sm_90", "compute_90"} - set(names)
    assert not missing, f"missing: {missing}"
    assert len(set(names.values())) == 1, "not every file has every architecture"


if __name__ == "__main__":
    main()
