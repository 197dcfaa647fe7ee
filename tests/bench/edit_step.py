"""One run of the edit-step benchmark: ours and PyTorch take turns on the same cores (called by edit_step.sh).

Prints Markdown: versions, then ratios. A ratio is of medians; the counted ratio beside it is of floating-point
operations counted from shapes (matrix products and attention; nothing else). Parts: the update against PyTorch
(`steps`), our own update with bf16 weights (`products`), `evaluation`, and `start`.
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
PARTS = ("steps", "products", "evaluation", "start")
MODES = ("fp32", "widened", "bf16")  # how our frozen weights are stored and multiplied


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

    def __init__(self, args, items_path, layer, n_edits, threads, mode="fp32"):
        began = time.perf_counter()
        model = args.model if mode == "fp32" else args.model + "-bf16"
        command = [args.program, model, items_path, str(layer), str(n_edits), str(threads), mode]
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
    notes = ours.ask("profile", 3), ours.ask("memory")
    ours.close()
    now = {name: median(values) for name, values in seconds.items()}
    counted = flop_packed(items, layer, True)
    whole, ideas = flop_padded(items, layer) / counted, flop_packed(items, layer, False) / counted
    speed = now["padded"] / now["ours"]
    print(f"| {layer} | {n_edits} | {threads} | {now['ours']:.3f} | {now['padded']:.3f} | {speed:.2f} | {whole:.2f} | "
          f"**{speed / whole:.2f}** | {now['packed']:.3f} | **{now['packed'] / now['ours']:.2f}** | {ideas:.2f} | "
          f"{float(flop) / now['ours'] * 1e-9:.0f} | **{now['products'] / now['ours']:.0%}** |", flush=True)
    return notes


def has_bf16(args):
    """Whether this CPU multiplies bf16; the program says why not."""
    command = [args.program, args.model + "-bf16", args.items, str(LAYERS[0]), "1", "1", "bf16"]
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if answer.returncode:
        print(f"\nNo bf16 products: {answer.stderr.splitlines()[0]}", flush=True)
    return answer.returncode == 0


def compare_products(args, layer, n_edits, threads):
    """Our own update in turn with fp32 weights, with bf16 ones widened, and with bf16 ones as they are."""
    sides = {mode: Ours(args, args.items, layer, n_edits, threads, mode) for mode in MODES}
    seconds, alone = {mode: [] for mode in MODES}, {mode: [] for mode in MODES}
    memory = sides["bf16"].ask("memory")  # before the benchmark's own copies of operands
    for _ in range(STEPS[n_edits]):
        for mode, side in sides.items():
            seconds[mode] += map(float, side.ask("steps"))
            flop, *product = side.ask("products")
            alone[mode] += map(float, product)
    now = {mode: median(values) for mode, values in seconds.items()}
    rate = {mode: float(flop) / median(alone[mode]) * 1e-9 for mode in MODES}
    losses = {mode: abs(side.loss / sides["fp32"].loss - 1) for mode, side in sides.items()}
    profile = sides["bf16"].ask("profile", 3)
    for side in sides.values():
        side.close()
    print(f"| {layer} | {n_edits} | {threads} | {now['fp32']:.3f} | {now['widened']:.3f} | {now['bf16']:.3f} | "
          f"**{now['fp32'] / now['bf16']:.2f}** | {float(flop) / now['fp32'] * 1e-9:.0f} | {rate['fp32']:.0f} | "
          f"**{median(alone['fp32']) / now['fp32']:.0%}** | {float(flop) / now['bf16'] * 1e-9:.0f} | {rate['bf16']:.0f} | "
          f"**{median(alone['bf16']) / now['bf16']:.0%}** | {losses['bf16']:.0e} |", flush=True)
    return profile, memory


def print_notes(args, notes):
    """Profile and memory of the children, under their names."""
    print("\nWhere the time of our update goes:\n")
    for name, (profile, _) in notes.items():
        print(f"- {name}: {shares(profile)}")
    print("\nMemory, MiB. Planned: weights in the file, rows at the cut, and what the arenas held at most; peak: what the "
          "process had resident at most, program and libraries included.\n\n| | weights | rows at the cut | arenas: run | "
          "batch | step | planned | peak | peak / planned |\n|" + "---|" * 9)
    for name, (_, memory) in notes.items():
        now = dict(zip(memory[::2], (float(value) / 2**20 for value in memory[1::2])))
        folder = args.model + ("-bf16" if name.endswith("bf16") else "")
        weights = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.name.endswith(".safetensors")) / 2**20
        planned = weights + now["prefix"] + now["run"] + now["batch"] + now["step"]
        print(f"| {name} | {weights:.0f} | {now['prefix']:.0f} | {now['run']:.0f} | {now['batch']:.0f} | {now['step']:.0f} | "
              f"{planned:.0f} | {now['peak']:.0f} | **{now['peak'] / planned:.2f}** |", flush=True)


def shares(profile):
    """"name seconds ..." as shares of the last, the whole."""
    values = dict(zip(profile[::2], map(float, profile[1::2])))
    whole = values.pop("whole")
    return ", ".join(f"{name} {value / whole:.1%}" for name, value in values.items())


def compare_evaluation(args, bench_torch, model, threads, modes):
    items = read_items(args.items, EVALUATED)
    seconds = bench_torch.evaluate_padded(model, items)
    own, padded = flop_evaluation(items, 32)
    for mode in modes:
        ours = Ours(args, args.items, LAYERS[0], EDITS[0], threads, mode)
        prefix, suffix = map(float, ours.ask("evaluate", 1))
        ours.close()
        print(f"| {threads} | {mode} | {prefix:.2f} | {suffix:.2f} | {seconds:.2f} | {seconds / (prefix + suffix):.2f} | "
              f"{padded / own:.2f} | {seconds / suffix:.2f} |", flush=True)


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
          f"- {os.cpu_count()} cores with {' '.join(wide)}; OPENBLAS_CORETYPE unset for both; fp32 but where bf16 is said\n"
          f"- seconds are {'CPU time' if os.environ.get('BENCH_CPU_CLOCK') else 'wall clock'}, medians\n"
          f"- load when it began: {os.getloadavg()[0]:.1f}", flush=True)


def run_steps(args, bench_torch, model, torch, cases):
    print("\n| layer | edits | threads | ours, s | (i) padded, s | (i) / ours | counted | share of counted | (ii) packed, s | "
          "(ii) / ours | counted | GFLOP/s | of own GEMM rate |\n|" + "---|" * 13)
    notes = {}
    for layer, n_edits, threads in cases:
        torch.set_num_threads(threads)
        notes[f"layer {layer}, {n_edits} edits, {threads} threads"] = compare_steps(args, bench_torch, model, layer, n_edits,
                                                                                     threads)
    print_notes(args, notes)


def run_products(args, cases):
    print("\nOur update by how frozen weights are stored and multiplied. Own rate: the library's, of the update's products "
          "alone, in GFLOP/s; loss: how far the first loss is off.\n\n| layer | edits | threads | fp32, s | bf16 widened, s | "
          "bf16, s | fp32 / bf16 | fp32 GFLOP/s | own rate | of own rate | bf16 GFLOP/s | own rate | of own rate | loss |\n|"
          + "---|" * 14)
    notes = {}
    for layer, n_edits, threads in cases:
        notes[f"layer {layer}, {n_edits} edits, {threads} threads, bf16"] = compare_products(args, layer, n_edits, threads)
    print_notes(args, notes)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program")
    parser.add_argument("--model", required=True)
    parser.add_argument("--items", required=True)
    parser.add_argument("--lengths")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
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
    bench_torch.save_bf16(args.model, args.model + "-bf16")
    ours = Ours(args, args.items, LAYERS[0], 1, 1)
    ours.close()
    print_versions(torch, transformers, ours.domain)
    modes = ["fp32"]
    if has_bf16(args):
        modes.append("bf16")
    cases = [(layer, n_edits, threads) for threads in args.threads for layer in LAYERS for n_edits in args.edits]
    if "steps" in args.parts:
        run_steps(args, bench_torch, model, torch, cases)
    if "products" in args.parts and len(modes) > 1:
        run_products(args, cases)
    if "evaluation" in args.parts:
        print(f"\nEvaluation of {EVALUATED} edits, teacher-forced, against PyTorch (fp32) in padded batches of 32 with all "
              "logits:\n\n| threads | ours | rows at the cut, s | from the cut, s | PyTorch, s | / both | counted | "
              "/ from the cut |\n|" + "---|" * 8)
        for threads in args.threads:
            torch.set_num_threads(threads)
            compare_evaluation(args, bench_torch, model, threads, modes)
    if "start" in args.parts:
        print()
        for threads in args.threads:
            compare_start(args, threads)
    print(f"- load when it ended: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
