#!/usr/bin/python3
"""test_edit_step.py PROGRAM MODULE: bench_edit_step, the program that speed is measured with, on the CPU and on the
emulated CUDA device (MODULE): the same loss and the same products wherever it runs, however it is launched; and what it
takes there is what the planning device says. Nothing about speed."""
import os
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True
from bench_ours import Ours  # noqa: E402
from bench_shapes import draw_items, write_items  # noqa: E402

LAYER, EDITS, SCORED = 6, 3, 4
ARENAS = ("weights", "run", "batch", "step")


def check(holds, *what):
    if not holds:
        sys.exit(f"FAIL: {' '.join(map(str, what))}")


def flop_of(shapes):
    return sum(2 * m * n * k for _, m, n, k in shapes)


def go_through(folder, **where):
    """Every request; what must not depend on where it runs."""
    ours = Ours(sys.argv[1], HERE.parents[1] / "configs/quickstart/model", folder / "items", LAYER, EDITS, **where)
    check(ours.update(3) > 0, "no time for updates", where)
    flop, seconds = ours.products()
    shapes = ours.shapes()
    check(flop == flop_of(shapes) and seconds > 0, "products:", flop, "against", flop_of(shapes), where)
    memory = ours.memory()
    check("adamw" in ours.profile(1), "no profile", where)
    check(min(ours.evaluate()) > 0, "no evaluation", where)
    ours.close()
    check(ours.child.returncode == 0, "ended with", ours.child.returncode, where)
    return ours.loss, shapes, memory


def main():
    os.environ.update(LEMOE_CUDA_MODULE=os.path.abspath(sys.argv[2]), LEMOE_CUDA_HOST_OPEN="1")
    with tempfile.TemporaryDirectory(prefix="lemoe-test-") as name:
        folder = pathlib.Path(name)
        write_items(folder / "items", draw_items(HERE / "zsre_lengths.txt", SCORED, 1152))
        loss, shapes, _ = go_through(folder)
        for launches in ("captured", "plain"):
            other_loss, other_shapes, memory = go_through(folder, device="cuda", launches=launches)
            check(abs(other_loss - loss) <= 1e-5 * loss, "losses:", loss, "and", other_loss, launches)
            check(other_shapes == shapes, "other products:", launches)
        plan = Ours(sys.argv[1], HERE.parents[1] / "configs/quickstart/model", folder / "items", LAYER, EDITS,
                    device="planning")
        planned = plan.memory()
        plan.close()
        for arena in ARENAS:
            check(planned[arena] == memory[arena], arena, "planned", planned[arena], "and taken", memory[arena])
        check(memory["taken"] >= sum(memory[arena] for arena in ARENAS), "taken:", memory)
    print(f"edit_step: {len(shapes)} products, {flop_of(shapes) / 1e6:.0f} MFLOP, loss {loss:.6f} on each")


if __name__ == "__main__":
    main()
