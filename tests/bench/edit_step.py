"""One run of the edit-step benchmark: ours and PyTorch take turns on the same cores, or on the same GPU (called by
edit_step.sh).

Prints Markdown: versions, then ratios, each as soon as it is known. A ratio is of medians; the counted ratio beside it
is of floating-point operations counted from shapes (bench_shapes.py). Parts: the update against PyTorch (`steps`), our
own update with bf16 weights (`products`), `evaluation`, and `start`; on a device of its own memory also captured updates
against plain launches (`graphs`), `memory` against its plan, and the speed of loading (`load`).
"""
import argparse
import os
import subprocess
import sys
import time
from statistics import median

import bench_files
from bench_ours import Ours
from bench_shapes import (SHAPES, draw_items, flop_evaluation, flop_packed, flop_padded, read_items, write_items)

ROUNDS = {32: 7, 200: 3}  # of so many edits, where nothing else is said
OWN_MEMORY_PARTS = ("load", "graphs", "memory")
PARTS = ("steps", "products", "evaluation", "start") + OWN_MEMORY_PARTS
MODES = ("fp32", "widened", "bf16")  # how our frozen weights are stored and multiplied
BOUND = {"fp32": 1e-4, "bf16": 1e-3}  # of the first losses' difference


class Table:
    """Rows of cells (title, text); the first is preceded by its titles."""

    def __init__(self):
        self.is_begun = False

    def row(self, *cells):
        if not self.is_begun:
            print("\n| " + " | ".join(title for title, _ in cells) + " |\n|" + "---|" * len(cells))
        self.is_begun = True
        print("| " + " | ".join(str(text) for _, text in cells) + " |", flush=True)


def short(seconds):
    return f"{seconds:.3f}" if seconds >= 0.1 else f"{seconds:.5f}"


class Run:
    """The arguments, and what they stand for; PyTorch and its model are there when they are first wanted."""

    def __init__(self, args):
        self.args, self.shape = args, SHAPES[args.shape]
        self.layers = self.shape.layers
        self.edits = args.edits or self.shape.edits
        self.has_own_memory = args.device != "cpu"
        self.ends = time.monotonic() + 60 * args.minutes
        self.loaded, self.library = None, {}

    def folder(self, mode):
        return self.args.model + ("" if mode == "fp32" else "-bf16")

    def ours(self, layer, n_edits, threads=1, mode=None, **others):
        mode = mode or self.args.dtype
        return Ours(self.args.program, self.folder(mode), self.args.items, layer, n_edits, threads, mode,
                    **{"device": self.args.device, **others})

    def torch(self):
        import bench_torch
        return bench_torch

    def model(self):
        if self.loaded is None:
            self.loaded = self.torch().load(self.folder(self.args.dtype), self.args.torch_device, self.args.dtype)
        return self.loaded

    def library_seconds(self, ours):
        """Of an update's products by the library under PyTorch, operands in our type; measured once for each update."""
        shapes = tuple(ours.shapes())
        if shapes not in self.library:
            self.library[shapes] = self.torch().products_alone(shapes, self.args.torch_device, self.args.dtype)
        return self.library[shapes]

    def set_threads(self, threads):
        import torch
        torch.set_num_threads(threads)

    def cases(self):
        return [(layer, n_edits, threads) for threads in self.args.threads for layer in self.layers
                for n_edits in self.edits]

    def is_over(self):
        return time.monotonic() > self.ends

    def rounds(self, n_edits):
        n = self.args.rounds or ROUNDS.get(n_edits, 3)
        for i in range(n):
            if i and self.is_over():
                print(f"\n(the time is up: the row below is of {i} rounds, not {n})\n", flush=True)
                return
            yield

    def update(self, ours):
        """Seconds of one of our updates: on a device that queues what it is given, of several in a row."""
        return ours.update(5 if self.has_own_memory else 1)


def make_inputs(run):
    """The folders that are not there yet, and the items."""
    args = run.args
    wanted = {args.dtype} | ({"fp32", "bf16"} if "products" in args.parts or not run.has_own_memory else set())
    for mode in sorted(wanted, reverse=True):  # fp32 first: bf16 is the same model rounded, where both are wanted
        if os.path.exists(run.folder(mode)):
            continue
        began, part = time.perf_counter(), run.folder(mode) + ".part"  # it may be cut off
        if mode == "bf16" and "fp32" in wanted:
            run.torch().save_bf16(run.folder("fp32"), part)
        else:
            run.torch().save_random_model(part, run.shape, mode, args.torch_device)
        os.rename(part, run.folder(mode))
        n_bytes = bench_files.n_bytes(bench_files.model_files(run.folder(mode)))
        print(f"- model: {n_bytes / 1e9:.2f} GB of random {mode} weights, written in {time.perf_counter() - began:.1f} s",
              flush=True)
    write_items(args.items, draw_items(args.lengths, run.shape.evaluated, run.shape.n_vocab))


# ---- steps: the update against PyTorch ----

def warm_up(run, ours, name, step):
    """First calls. Before any update the loss has to be the same on all sides; returns how far it is off."""
    step()
    off = abs(step.loss / ours.loss - 1)
    if not off <= BOUND[run.args.dtype]:
        sys.exit(f"the first losses differ: ours {ours.loss}, PyTorch {name} {step.loss}")
    if run.has_own_memory:  # a graph is captured, libraries have chosen
        step(), step()
    return off


def compare_packed(run, table, case, ours, padded, kind, padded_off):
    """One row: ours, padded (whose first loss was that far off) and a kind of packed in turn."""
    layer, n_edits, threads = case
    items = read_items(run.args.items, n_edits)
    packed = run.torch().packed(kind, run.model(), layer, items)
    packed_off = warm_up(run, ours, f"packed, {kind}", packed)
    seconds = {name: [] for name in ("ours", "padded", "packed", "alone")}
    for _ in run.rounds(n_edits):
        seconds["ours"].append(run.update(ours))
        seconds["padded"].append(padded())
        seconds["packed"].append(packed())
        flop, alone = ours.products()
        seconds["alone"].append(alone)
    now = {name: median(values) for name, values in seconds.items()}
    library = run.library_seconds(ours) if run.has_own_memory else 0
    counted = flop_packed(run.shape, items, layer, True)
    whole, ideas = flop_padded(run.shape, items, layer) / counted, flop_packed(run.shape, items, layer, False) / counted
    speed = now["padded"] / now["ours"]
    table.row(("layer", layer), ("edits", n_edits), ("threads", threads), ("ours, s", short(now["ours"])),
              ("(i) padded, s", short(now["padded"])), ("(i) / ours", f"{speed:.2f}"), ("counted", f"{whole:.2f}"),
              ("share of counted", f"**{speed / whole:.2f}**"),
              ("(ii) packed, s", short(now["packed"]) + ("" if kind == "eager" else " " + kind)),
              ("(ii) / ours", f"**{now['packed'] / now['ours']:.2f}**"), ("counted", f"{ideas:.2f}"),
              ("GFLOP/s", f"{flop / now['ours'] * 1e-9:.0f}"),
              ("of own GEMM rate", f"**{now['alone'] / now['ours']:.0%}**"),
              *([("library's rate", f"{flop / library * 1e-9:.0f}"),
                 ("of it", f"**{library / now['ours']:.0%}**"),
                 ("first losses off", f"{padded_off:.0e}, {packed_off:.0e}")] if library else []))


def compare_steps(run, table, layer, n_edits, threads):
    ours = run.ours(layer, n_edits, threads)
    padded = run.torch().PaddedStep(run.model(), layer, read_items(run.args.items, n_edits))
    padded_off = warm_up(run, ours, "padded", padded)
    if run.has_own_memory:
        ours.update(3)
    for kind in run.args.packed:
        compare_packed(run, table, (layer, n_edits, threads), ours, padded, kind, padded_off)
    notes = None if run.has_own_memory else (ours.profile(), ours.memory())
    ours.close()
    return notes


def run_steps(run):
    table, notes, suffix = Table(), {}, ", bf16" if run.args.dtype == "bf16" else ""
    for layer, n_edits, threads in run.cases():
        run.set_threads(threads)
        name = f"layer {layer}, {n_edits} edits, {threads} threads{suffix}"
        notes[name] = compare_steps(run, table, layer, n_edits, threads)
    if not run.has_own_memory:
        print_notes(run, notes)


# ---- products: fp32 against bf16, on the CPU ----

def has_bf16(run):
    """Whether this CPU multiplies bf16; the program says why not."""
    command = [run.args.program, run.folder("bf16"), run.args.items, str(run.layers[0]), "1", "1", "bf16"]
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if answer.returncode:
        print(f"\nNo bf16 products: {answer.stderr.splitlines()[0]}", flush=True)
    return answer.returncode == 0


def compare_products(run, table, layer, n_edits, threads):
    """Our own update in turn with fp32 weights, with bf16 ones widened, and with bf16 ones as they are."""
    sides = {mode: run.ours(layer, n_edits, threads, mode) for mode in MODES}
    seconds, alone = {mode: [] for mode in MODES}, {mode: [] for mode in MODES}
    memory = sides["bf16"].memory()  # before the benchmark's own copies of operands
    for _ in run.rounds(n_edits):
        for mode, side in sides.items():
            seconds[mode].append(run.update(side))
            flop, product = side.products()
            alone[mode].append(product)
    now = {mode: median(values) for mode, values in seconds.items()}
    profile = sides["bf16"].profile()
    for side in sides.values():
        side.close()

    def rates(mode):
        return [(f"{mode} GFLOP/s", f"{flop / now[mode] * 1e-9:.0f}"),
                ("own rate", f"{flop / median(alone[mode]) * 1e-9:.0f}"),
                ("of own rate", f"**{median(alone[mode]) / now[mode]:.0%}**")]

    table.row(("layer", layer), ("edits", n_edits), ("threads", threads), ("fp32, s", short(now["fp32"])),
              ("bf16 widened, s", short(now["widened"])), ("bf16, s", short(now["bf16"])),
              ("fp32 / bf16", f"**{now['fp32'] / now['bf16']:.2f}**"), *rates("fp32"), *rates("bf16"),
              ("loss", f"{abs(sides['bf16'].loss / sides['fp32'].loss - 1):.0e}"))
    return profile, memory


def run_products(run):
    if run.has_own_memory or not has_bf16(run):
        return
    print("\nOur update by how frozen weights are stored and multiplied. Own rate: the library's, of the update's products "
          "alone, in GFLOP/s; loss: how far the first loss is off.")
    table, notes = Table(), {}
    for layer, n_edits, threads in run.cases():
        name = f"layer {layer}, {n_edits} edits, {threads} threads, bf16"
        notes[name] = compare_products(run, table, layer, n_edits, threads)
    print_notes(run, notes)


def print_notes(run, notes):
    """Profile and memory of the children, under their names."""
    print("\nWhere the time of our update goes:\n")
    for name, (profile, _) in notes.items():
        print(f"- {name}: {profile}")
    print("\nMemory, MiB. Planned: weights in the file, rows at the cut, and what the arenas held at most; peak: what the "
          "process had resident at most, program and libraries included.")
    table = Table()
    for name, (_, memory) in notes.items():
        now = {key: value / 2**20 for key, value in memory.items()}
        folder = run.folder("bf16" if name.endswith("bf16") else "fp32")
        weights = bench_files.n_bytes(bench_files.model_files(folder)) / 2**20
        planned = weights + now["prefix"] + now["run"] + now["batch"] + now["step"]
        table.row(("", name), ("weights", f"{weights:.0f}"), ("rows at the cut", f"{now['prefix']:.0f}"),
                  ("arenas: run", f"{now['run']:.0f}"), ("batch", f"{now['batch']:.0f}"), ("step", f"{now['step']:.0f}"),
                  ("planned", f"{planned:.0f}"), ("peak", f"{now['peak']:.0f}"),
                  ("peak / planned", f"**{now['peak'] / planned:.2f}**"))


# ---- evaluation ----

def run_evaluation(run):
    args, n = run.args, run.shape.evaluated
    modes = [args.dtype] if run.has_own_memory or not has_bf16(run) else ["fp32", "bf16"]
    print(f"\nEvaluation of {n} edits, teacher-forced, against PyTorch ({args.dtype}) in padded batches of 32 with all "
          "logits:")
    table, items = Table(), read_items(args.items, n)
    own, padded = flop_evaluation(run.shape, items, 32)
    for threads in args.threads:
        run.set_threads(threads)
        if run.has_own_memory:  # warm-up
            run.torch().evaluate_padded(run.model(), items[:32])
        seconds = run.torch().evaluate_padded(run.model(), items)
        for mode in modes:
            ours = run.ours(run.layers[0], run.edits[0], threads, mode)
            prefix, suffix = ours.evaluate()
            ours.close()
            table.row(("threads", threads), ("ours", mode), ("rows at the cut, s", f"{prefix:.2f}"),
                      ("from the cut, s", f"{suffix:.2f}"), ("PyTorch, s", f"{seconds:.2f}"),
                      ("/ both", f"{seconds / (prefix + suffix):.2f}"), ("counted", f"{padded / own:.2f}"),
                      ("/ from the cut", f"{seconds / suffix:.2f}"))


# ---- start ----

def first_step(run):
    """Called in a process of its own: seconds and peak memory of PyTorch from its start to the end of the first step."""
    run.set_threads(run.args.threads[0])
    items = read_items(run.args.items, run.edits[0])
    step = run.torch().PaddedStep(run.model(), run.args.layer, items)
    step()
    with open("/proc/self/status", encoding="utf-8") as status:  # getrusage would count the parent's memory
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")))


def run_start(run):
    print()
    layer, n_edits, args = run.layers[0], run.edits[0], run.args
    for threads in args.threads:
        ours = run.ours(layer, n_edits, threads)
        ours.close()
        began = time.perf_counter()
        answer = subprocess.run([sys.executable, __file__, "--first-step", "--shape", args.shape, "--model", args.model,
                                 "--items", args.items, "--layer", str(layer), "--edits", str(n_edits), "--threads",
                                 str(threads), "--torch-device", args.torch_device, "--dtype", args.dtype],
                                check=True, capture_output=True, text=True).stdout
        theirs = time.perf_counter() - began
        print(f"- start to the end of the first update ({threads} thread): ours {ours.first_step:.2f} s (model open "
              f"{ours.opened:.2f}, rows at the cut {ours.prefix:.2f}), PyTorch padded {theirs:.2f} s, imports and loading "
              f"included; its peak memory {int(answer.split()[-1]) / 1024:.0f} MiB", flush=True)


# ---- what a device of its own memory has besides ----

def run_load(run):
    """Loading against the disk. Cold: the system was asked to forget the files, and says how much of them it still has."""
    folder = run.folder(run.args.dtype)
    files = bench_files.model_files(folder)
    n_bytes = bench_files.n_bytes(files)
    print(f"\nLoading {n_bytes / 1e9:.2f} GB, {len(files)} files, until the model is open, without opening the device. GB/s: "
          "reading the files by 1 and by 8 threads, ours, and the share of the faster reading. In memory: share of the "
          "files that was there before ours began.")
    table = Table()

    def measure(name, prepare):
        rates, share = [], None
        for n_thread in (1, 8):
            prepare()
            rates.append(n_bytes / bench_files.read_seconds(files, n_thread) * 1e-9)
        prepare()
        share = bench_files.cached_share(files)
        ours = run.ours(run.layers[0], 1)
        seconds = ours.opened - ours.device_opened
        ours.close()
        table.row(("files", name), ("in memory", "unknown" if share is None else f"{share:.0%}"),
                  ("1 thread", f"{rates[0]:.2f}"), ("8 threads", f"{rates[1]:.2f}"), ("ours, s", f"{seconds:.2f}"),
                  ("ours", f"{n_bytes / seconds * 1e-9:.2f}"),
                  ("of reading", f"**{n_bytes / seconds * 1e-9 / max(rates):.0%}**"))

    measure("cold", lambda: bench_files.drop(files))
    measure("warm", lambda: None)
    began = time.perf_counter()
    run.model()
    run.torch().wait(run.args.torch_device)
    seconds = time.perf_counter() - began
    print(f"\nPyTorch, warm, imports included: {seconds:.2f} s", flush=True)


def run_graphs(run):
    """Captured updates against the same with every operation launched, in turn."""
    print("\nOur update captured and replayed, and launched operation by operation:")
    table, profiles = Table(), {}
    for layer, n_edits, _ in run.cases():
        sides = {name: run.ours(layer, n_edits, launches=name) for name in ("captured", "plain")}
        seconds = {name: [] for name in sides}
        for side in sides.values():
            side.update(3)  # warm-up: captures
        for _ in run.rounds(n_edits):
            for name, side in sides.items():
                seconds[name].append(run.update(side))
        profiles[f"layer {layer}, {n_edits} edits"] = sides["plain"].profile()
        for side in sides.values():
            side.close()
        now = {name: median(values) for name, values in seconds.items()}
        table.row(("layer", layer), ("edits", n_edits), ("captured, s", short(now["captured"])),
                  ("plain, s", short(now["plain"])), ("plain / captured", f"**{now['plain'] / now['captured']:.2f}**"))
    print("\nWhere the time of a plain update goes when each operation is waited for:\n")
    for name, profile in profiles.items():
        print(f"- {name}: {profile}", flush=True)


def run_memory(run):
    """What a device that computes nothing says the update takes, against what the driver says it took."""
    print("\nDevice memory of an update, MiB. Planned: weights and arenas, on a device that computes nothing; taken: what is "
          "no longer free since the device was opened, captured graphs included.")
    table = Table()
    for layer, n_edits, _ in run.cases():
        plan = run.ours(layer, n_edits, device="planning")
        real = run.ours(layer, n_edits)
        real.update(3)
        planned, now = plan.memory(), real.memory()
        plan.close()
        real.close()
        arenas = ("weights", "run", "batch", "step", "workspace")
        if any(planned[name] != now[name] for name in arenas[:4]):
            print(f"\nArenas are not as planned: {planned} and {now}", flush=True)
        whole = sum(planned[name] for name in arenas)
        table.row(("layer", layer), ("edits", n_edits), *((name, f"{planned[name] / 2**20:.0f}") for name in arenas),
                  ("planned", f"{whole / 2**20:.0f}"), ("workspace in the end", f"{now['workspace'] / 2**20:.0f}"),
                  ("taken", f"{now['taken'] / 2**20:.0f}"), ("taken / planned", f"**{now['taken'] / whole:.3f}**"))


def print_versions(run):
    import torch
    import transformers
    ours = run.ours(run.layers[0], 1)
    ours.close()
    mkl = [line.strip(" -") for line in torch.__config__.show().splitlines() if "Math Kernel" in line or "BLAS" in line]
    flags = open("/proc/cpuinfo", encoding="utf-8").read().split("flags", 1)[-1].split("\n")[0].split()
    wide = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    on_gpu = run.args.torch_device != "cpu"
    under = f"{torch.backends.cpu.get_cpu_capability()}; {mkl[0].split(' for ')[0] if mkl else 'no MKL'}"
    if on_gpu:
        under = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    types = "fp32 but where bf16 is said" if run.args.dtype == "fp32" else "bf16 as bench_torch.py says"
    print(f"- ours: {ours.domain}\n- PyTorch {torch.__version__}, transformers {transformers.__version__}, {under}\n"
          f"- {os.cpu_count()} cores with {' '.join(wide)}; OPENBLAS_CORETYPE unset for both; {types}\n"
          f"- seconds are {'CPU time' if os.environ.get('BENCH_CPU_CLOCK') else 'wall clock'}, medians\n"
          f"- load when it began: {os.getloadavg()[0]:.1f}", flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program")
    parser.add_argument("--model", required=True, help="folder of the fp32 model; the bf16 one has -bf16 behind it")
    parser.add_argument("--items", required=True)
    parser.add_argument("--lengths")
    parser.add_argument("--shape", choices=SHAPES, default="160m")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="ours")
    parser.add_argument("--torch-device", choices=("cpu", "cuda"), default="cpu", help="PyTorch's")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--packed", nargs="+", choices=("eager", "captured", "compiled"), default=["eager"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS[:4]))
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e6, help="afterwards no part and no further round begins")
    parser.add_argument("--first-step", action="store_true")
    parser.add_argument("--layer", type=int)
    parser.add_argument("--edits", type=int, nargs="+")
    args = parser.parse_args()
    if args.device == "cpu" and set(args.parts) & set(OWN_MEMORY_PARTS):
        parser.error(f"{', '.join(OWN_MEMORY_PARTS)}: only with --device cuda")
    return args


def run_part(run, part):
    """Whether it ended well. On a GPU, which may not be there again soon, the next one is tried in any case."""
    try:
        part(run)
        return True
    except (Exception, SystemExit) as error:  # pylint: disable=broad-except
        if not run.has_own_memory:
            raise
        print(f"\nFAILED: {type(error).__name__}: {error}", flush=True)
        return False


def main():
    run = Run(parse())
    if run.args.first_step:
        first_step(run)
        return
    import torch
    if run.args.torch_device == "cuda" and not torch.cuda.is_available():
        sys.exit("edit_step: PyTorch sees no GPU here")
    make_inputs(run)
    print_versions(run)
    parts = {"steps": run_steps, "products": run_products, "evaluation": run_evaluation, "start": run_start,
             "load": run_load, "graphs": run_graphs, "memory": run_memory}
    n_failed = 0
    for name in run.args.parts if run.has_own_memory else [part for part in PARTS if part in run.args.parts]:
        if run.is_over():
            print(f"\n(the time is up: {name} was not begun)", flush=True)
        elif not run_part(run, parts[name]):
            n_failed += 1
    print(f"- load when it ended: {os.getloadavg()[0]:.1f}")
    sys.exit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
