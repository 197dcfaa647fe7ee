#!/usr/bin/python3
"""bench_expand.py PROGRAM: a sweep of 100,000 configurations is expanded, checked, identified and dry-run on the embedded
model. Prints seconds and the largest resident size; aims: 10 s, 500 MB."""
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SWEEP = f"""\
name: bench
model: {{path: {ROOT}/configs/quickstart/model, dtype: fp32}}
data: {{kind: zsre, path: {ROOT}/configs/quickstart/data.json, edits: 200}}
edit: {{batch_size: 50, method: lemoe}}
lemoe: {{layer: 5}}
output: {{dir: nowhere}}
sweep:
  axes:
    lemoe.lr: [{", ".join(f"{i + 1}e-4" for i in range(10))}]
    lemoe.clip: [{", ".join(str(i + 1) for i in range(10))}]
    order.planner: [random]
    seed: [{", ".join(str(i) for i in range(1000))}]
"""

with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "bench.yaml")
    path.write_text(SWEEP)
    began = time.monotonic()
    result = subprocess.run([pathlib.Path(sys.argv[1]).resolve(), path, "--dry-run"], cwd=folder, stdout=subprocess.PIPE, text=True,
                            check=True)
    seconds = time.monotonic() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(result.stdout.splitlines()[0])
print(f"{seconds:.2f} s ({used.ru_utime + used.ru_stime:.2f} s of CPU), {used.ru_maxrss / 1024:.0f} MB")
