# shellcheck shell=bash
# Sourced: where a Python with PyTorch has CUDA's libraries.

# torch_libraries PYTHON: the folders, with colons behind them, for LD_LIBRARY_PATH.
torch_libraries() {
    "$1" -c 'import glob, os, torch
base = os.path.join(os.path.dirname(os.path.dirname(torch.__file__)), "nvidia", "*", "lib")
print("".join(folder + ":" for folder in sorted(glob.glob(base))))'
}
