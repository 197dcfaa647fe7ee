"""One run of the edit-step benchmark: ours and PyTorch take turns on the same cores (called by edit_step.sh).

Prints Markdown: versions, then ratios. A ratio is of medians; the counted ratio beside it is of floating-point
operations counted from shapes (matrix products and attention; nothing else).
"""
import argparse
import os
import random
import subprocess
import sys
import time
from statistics import median

SHAPE = dict(d=768, n_layer=12, d_ff=2048, n_head=12, n_vocab=32000)
LAYERS, EDITS, EVALUATED = (6, 9), (32, 200), 1000
STEPS = {32: 7, 200: 3}  # rounds


# ---- input: real lengths, random ids ----

def draw_items(path, n):
    """n edits (prompt tokens, ids) whose lengths are drawn without repetition from those of the 1,037 real ones."""
    lengths = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                n_prompt, n_target, count = map(int, line.split())
                lengths += [(n_prompt, n_target)] * count
    draw = random.Random(0)
    draw.shuffle(lengths)
    return [(n_prompt, [1] + [draw.randrange(3, SHAPE["n_vocab"]) for _ in range(n_prompt + n_target - 1)])
            for n_prompt, n_target in lengths[:n]]


def write_items(path, items):
    with open(path, "w", encoding="utf-8") as file:
        for n_prompt, ids in items:
            print(n_prompt, *ids, file=file)


def read_items(path, n):
    with open(path, encoding="utf-8") as file:
        rows = [list(map(int, line.split())) for line in file][:n]
    return [(row[0], row[1:]) for row in rows]


# ---- floating-point operations, from shapes ----

ATTENTION = 4 * SHAPE["d"] ** 2  # weights of a layer's attention, of its FFN, of the logits
FFN = 3 * SHAPE["d"] * SHAPE["d_ff"]
HEAD = SHAPE["d"] * SHAPE["n_vocab"]


def scores(lengths):
    """Multiplications of Q K^T and P V, whole squares, as both compute them."""
    return 2 * SHAPE["d"] * sum(n * n for n in lengths)


def flop_padded(items, layer):
    """Forward of the whole model at every position, backward to the edited FFN; the expert's own products."""
    longest, n = max(len(ids) for _, ids in items), len(items)
    rows, above = n * longest, SHAPE["n_layer"] - 1 - layer
    square = scores([longest] * n)
    forward = rows * (SHAPE["n_layer"] * (ATTENTION + FFN) + HEAD + FFN) + SHAPE["n_layer"] * square
    backward = rows * (above * (ATTENTION + FFN) + HEAD) + above * 2 * square
    return 2 * (forward + backward + rows * FFN * 4 // 3)


def flop_packed(items, layer, ours):
    """From the edited FFN up, rows without padding, last FFN and logits at targets. ours: the edited host FFN is held,
    and the last layer's queries and attention output are computed at targets only."""
    rows, targets = sum(len(ids) for _, ids in items), sum(len(ids) - n for n, ids in items)
    above = SHAPE["n_layer"] - 1 - layer
    square = scores([len(ids) for _, ids in items])
    whole = above * ATTENTION + (above - 1) * FFN
    up = rows * whole + targets * (FFN + HEAD)
    if ours:
        up -= (rows - targets) * ATTENTION // 2
    forward = up + rows * (FFN if ours else 2 * FFN) + above * square
    backward = up + above * 2 * square + rows * FFN * 4 // 3
    return 2 * (forward + backward)


def flop_evaluation(items, batch):
    """Ours: every row of all layers but the last, which is computed at targets. Padded: see evaluate_padded."""
    ours = padded = 0
    for first in range(0, len(items), batch):
        part = items[first:first + batch]
        longest, n = max(len(ids) for _, ids in part), len(part)
        padded += n * longest * (SHAPE["n_layer"] * (ATTENTION + FFN) + HEAD + FFN)
        padded += SHAPE["n_layer"] * scores([longest] * n)
    rows, targets = sum(len(ids) for _, ids in items), sum(len(ids) - n for n, ids in items)
    ours = rows * ((SHAPE["n_layer"] - 1) * (ATTENTION + FFN) + ATTENTION // 2 + FFN)
    ours += targets * (ATTENTION // 2 + FFN + HEAD) + SHAPE["n_layer"] * scores([len(ids) for _, ids in items])
    return 2 * ours, 2 * padded


# ---- the two sides ----

class Ours:
    """bench_edit_step as a child: a request, an answer."""

    def __init__(self, args, items_path, layer, n_edits, threads):
        began = time.perf_counter()
        command = [args.program, args.model, items_path, str(layer), str(n_edits), str(threads)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        words = self.read("open")
        self.first_step = time.perf_counter() - began
        self.opened, self.prefix, self.loss, self.domain = *map(float, (words[0], words[1], words[3])), " ".join(words[4:])

    def read(self, name):
        words = self.child.stdout.readline().split()
        if not words or words[0] != name:
            sys.exit(f"bench_edit_step answered {words} instead of {name}")
        return words[1:]

    def ask(self, name, n=1):
        print(name, n, file=self.child.stdin, flush=True)
        return self.read(name)

    def close(self):
        self.child.stdin.close()
        self.child.wait()


def first_step(args):
    """Called in a process of its own: seconds and peak memory of PyTorch from its start to the end of the first step."""
    import bench_torch
    import torch
    torch.set_num_threads(args.threads)
    model = bench_torch.load(args.model)
    items = read_items(args.items, args.edits)
    step = bench_torch.PaddedStep(model, args.layer, items)
    step()
    with open("/proc/self/status", encoding="utf-8") as status:  # getrusage would count the parent's memory
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")))


# ---- tables ----

def compare_steps(args, bench_torch, model, layer, n_edits, threads):
    items = read_items(args.items, n_edits)
    ours = Ours(args, args.items, layer, n_edits, threads)
    padded, packed = (kind(model, layer, items) for kind in (bench_torch.PaddedStep, bench_torch.PackedStep))
    seconds = {"ours": [], "padded": [], "packed": [], "products": []}
    padded(), packed()  # warm-up; the loss before any update has to be the same on all sides
    for other in (padded, packed):
        if abs(other.loss - ours.loss) > 1e-4 * abs(ours.loss):
            sys.exit(f"the first losses differ: {ours.loss} and {other.loss}")
    for _ in range(STEPS[n_edits]):
        seconds["ours"] += map(float, ours.ask("steps"))
        seconds["padded"].append(padded())
        seconds["packed"].append(packed())
        flop, *alone = ours.ask("products")
        seconds["products"] += map(float, alone)
    profile = ours.ask("profile", 3)
    memory = ours.ask("memory")
    ours.close()
    now = {name: median(values) for name, values in seconds.items()}
    counted = flop_packed(items, layer, True)
    whole, ideas = flop_padded(items, layer) / counted, flop_packed(items, layer, False) / counted
    speed = now["padded"] / now["ours"]
    print(f"| {layer} | {n_edits} | {threads} | {now['ours']:.3f} | {now['padded']:.3f} | {speed:.2f} | {whole:.2f} | "
          f"**{speed / whole:.2f}** | {now['packed']:.3f} | **{now['packed'] / now['ours']:.2f}** | {ideas:.2f} | "
          f"{float(flop) / now['ours'] * 1e-9:.0f} | **{now['products'] / now['ours']:.0%}** |", flush=True)
    return profile, memory, ours.domain


def shares(profile):
    """"name seconds ..." as shares of the last, the whole."""
    values = dict(zip(profile[::2], map(float, profile[1::2])))
    whole = values.pop("whole")
    return ", ".join(f"{name} {value / whole:.1%}" for name, value in values.items())


def compare_evaluation(args, bench_torch, model, threads):
    items = read_items(args.items, EVALUATED)
    ours = Ours(args, args.items, LAYERS[0], EDITS[0], threads)
    prefix, *suffix = map(float, ours.ask("evaluate", 2))
    ours.close()
    seconds = bench_torch.evaluate_padded(model, items)
    own, padded = flop_evaluation(items, 32)
    both = prefix + median(suffix)
    print(f"| {threads} | {prefix:.2f} | {median(suffix):.2f} | {seconds:.2f} | {seconds / both:.2f} | {padded / own:.2f} | "
          f"{seconds / median(suffix):.2f} |", flush=True)


def compare_start(args, threads):
    layer, n_edits = LAYERS[0], EDITS[0]
    ours = Ours(args, args.items, layer, n_edits, threads)
    ours.close()
    began = time.perf_counter()
    answer = subprocess.run([sys.executable, __file__, "--first-step", "--model", args.model, "--items", args.items,
                             "--layer", str(layer), "--edits", str(n_edits), "--threads", str(threads)],
                            check=True, capture_output=True, text=True).stdout
    theirs = time.perf_counter() - began
    print(f"- start to the end of the first update ({threads} thread): ours {ours.first_step:.2f} s (model open "
          f"{ours.opened:.2f}, rows at the cut {ours.prefix:.2f}), PyTorch padded {theirs:.2f} s, imports and loading "
          f"included; its peak memory {int(answer.split()[-1]) / 1024:.0f} MiB", flush=True)


def print_versions(torch, transformers, domain):
    mkl = [line.strip(" -") for line in torch.__config__.show().splitlines() if "Math Kernel" in line or "BLAS" in line]
    flags = open("/proc/cpuinfo", encoding="utf-8").read().split("flags", 1)[-1].split("\n")[0].split()
    wide = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    print(f"- ours: {domain}\n- PyTorch {torch.__version__}, transformers {transformers.__version__}, "
          f"{torch.backends.cpu.get_cpu_capability()}; {mkl[0].split(' for ')[0] if mkl else 'no MKL'}\n"
          f"- {os.cpu_count()} cores with {' '.join(wide)}; OPENBLAS_CORETYPE unset for both; fp32\n"
          f"- seconds are {'CPU time' if os.environ.get('BENCH_CPU_CLOCK') else 'wall clock'}, medians\n"
          f"- load when it began: {os.getloadavg()[0]:.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program")
    parser.add_argument("--model", required=True)
    parser.add_argument("--items", required=True)
    parser.add_argument("--lengths")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--first-step", action="store_true")
    parser.add_argument("--layer", type=int)
    parser.add_argument("--edits", type=int, nargs="+", default=list(EDITS))
    args = parser.parse_args()
    if args.first_step:
        args.threads, args.edits = args.threads[0], args.edits[0]
        first_step(args)
        return
    import bench_torch
    import torch
    import transformers
    bench_torch.save_random_model(args.model, **SHAPE)
    write_items(args.items, draw_items(args.lengths, EVALUATED))
    model = bench_torch.load(args.model)
    ours = Ours(args, args.items, LAYERS[0], 1, 1)
    ours.close()
    print_versions(torch, transformers, ours.domain)
    print("\n| layer | edits | threads | ours, s | (i) padded, s | (i) / ours | counted | share of counted | (ii) packed, s | "
          "(ii) / ours | counted | GFLOP/s | of own GEMM rate |\n|" + "---|" * 13)
    notes = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        for layer in LAYERS:
            for n_edits in args.edits:
                profile, memory, _ = compare_steps(args, bench_torch, model, layer, n_edits, threads)
                notes.append((layer, n_edits, threads, profile, memory))
    print("\nWhere our update's time goes:\n")
    for layer, n_edits, threads, profile, _ in notes:
        print(f"- layer {layer}, {n_edits} edits, {threads} threads: {shares(profile)}")
    print("\nPeak memory, MiB (rss and its parts as the kernel counts them; arenas by their high-water marks):\n")
    for layer, n_edits, threads, _, memory in notes:
        values = dict(zip(memory[::2], (float(value) / 2**20 for value in memory[1::2])))
        print(f"- layer {layer}, {n_edits} edits, {threads} threads: "
              + ", ".join(f"{name} {value:.0f}" for name, value in values.items()))
    print(f"\nEvaluation of {EVALUATED} edits, teacher-forced, against PyTorch in padded batches of 32 with all logits:\n\n"
          "| threads | ours: rows at the cut, s | from the cut, s | PyTorch, s | / both | counted | / from the cut |\n|"
          + "---|" * 7)
    for threads in args.threads:
        torch.set_num_threads(threads)
        compare_evaluation(args, bench_torch, model, threads)
    print()
    for threads in args.threads:
        compare_start(args, threads)
    print(f"- load when it ended: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
