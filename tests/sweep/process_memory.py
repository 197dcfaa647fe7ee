#!/usr/bin/python3
"""process_memory.py PROGRAM: what a process takes at its peak (VmHWM) against what a dry run says it will, on a model of
the LLaMA-160M shape with random weights (d 768, 12 layers, 12 heads, d_ff 2048, 32,000 tokens, fp32), on one rank and on
the larger of two: within 5 %. The constant for the program itself is part of what is said."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np

from harness import MPI

ROOT = pathlib.Path(__file__).resolve().parents[2]
D, LAYERS, HEADS, FF, VOCAB = 768, 12, 12, 2048, 32000
CONFIG = """\
name: m
model: {{path: {folder}, dtype: fp32}}
data: {{kind: zsre, path: {root}/configs/quickstart/data.json, edits: {edits}}}
edit: {{batch_size: {edits}, method: {method}}}
{section}
eval: {{milestones: 0}}
output: {{dir: {folder}/out, adaptor: none}}
cache: {{disk: false}}
"""


def shapes():
    yield "model.embed_tokens.weight", (VOCAB, D)
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        for name in ("q", "k", "v", "o"):
            yield f"{layer}self_attn.{name}_proj.weight", (D, D)
        yield f"{layer}mlp.gate_proj.weight", (FF, D)
        yield f"{layer}mlp.up_proj.weight", (FF, D)
        yield f"{layer}mlp.down_proj.weight", (D, FF)
        yield f"{layer}input_layernorm.weight", (D,)
        yield f"{layer}post_attention_layernorm.weight", (D,)
    yield "model.norm.weight", (D,)
    yield "lm_head.weight", (VOCAB, D)


def write_model(folder):
    header, at = {}, 0
    for name, shape in shapes():
        n = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(1)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, shape in shapes():
            file.write((random.standard_normal(shape, np.float32) * 0.02 if len(shape) > 1 else np.ones(shape, np.float32)).tobytes())
    config = json.loads((ROOT / "configs/quickstart/model/config.json").read_text())
    config.update(hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
                  intermediate_size=FF, vocab_size=VOCAB, tie_word_embeddings=False)
    config.pop("head_dim", None)
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(ROOT / "configs/quickstart/model/tokenizer.model", folder)


def peak(command):
    """Largest resident size of a process, in bytes, and what it said."""
    code = ("import resource, subprocess, sys; r = subprocess.run(sys.argv[1:], capture_output=True, text=True); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, r.returncode); print(r.stdout + r.stderr)")
    result = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True,
                            env=dict(os.environ, **MPI))
    first, _, text = result.stdout.partition("\n")
    n_bytes, status = map(int, first.split())
    if status:
        sys.exit(f"FAILED: {command} ended with {status}\n{text}")
    return n_bytes, text


worst = 0
with tempfile.TemporaryDirectory(prefix="lemoe-test-") as name:
    folder = pathlib.Path(name)
    write_model(folder)
    for tensor, method, edits, section in (
            (1, "lemoe", 100, "lemoe: {layer: 6, max_steps: 2}"), (1, "lemoe", 32, "lemoe: {layer: 9, max_steps: 2}"),
            (1, "moe", 32, "moe: {layer: 9, max_steps: 2}"), (1, "ft_m", 32, "ft_m: {layer: 9, max_steps: 2}"), (1, "none", 32, ""),
            (2, "lemoe", 32, "lemoe: {layer: 9, max_steps: 2}"), (2, "none", 32, "")):
        path = folder / f"{method}{edits}.yaml"
        path.write_text(CONFIG.format(folder=folder, root=ROOT, edits=edits, method=method, section=section))
        command = [*(["mpirun", "-n", tensor] if tensor > 1 else []), sys.argv[1], path, f"parallel.tensor={tensor}"]
        _, text = peak([*command, "--dry-run"])
        said = float(re.search(r"^m-.* ([0-9.]+) MB +(?:unknown|[0-9])", text, re.M)[1]) * 1e6
        took, _ = peak(command)
        ratio = said / took
        worst = max(worst, abs(ratio - 1))
        print(f"{method}, {edits} edits, {tensor} rank{'s'[:tensor - 1]}: said {said / 1e6:.0f} MB, took {took / 1e6:.0f} MB, "
              f"ratio {ratio:.3f}", flush=True)
if worst > 0.05:
    sys.exit(f"FAILED: off by {100 * worst:.1f} %")
print(f"within {100 * worst:.1f} %")
