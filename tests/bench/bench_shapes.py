"""What the edit-step benchmark computes with: shapes of models, edits of real lengths with random ids, and the
floating-point operations of an update counted from both (matrix products and attention; nothing else)."""
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    d: int
    n_layer: int
    d_ff: int
    n_head: int
    n_vocab: int
    layers: tuple  # which are edited, one after the other
    edits: tuple  # sizes of the batch, likewise
    evaluated: int  # edits

    @property
    def attention(self):
        """Weights of a layer's attention."""
        return 4 * self.d ** 2

    @property
    def ffn(self):
        return 3 * self.d * self.d_ff

    @property
    def head(self):
        return self.d * self.n_vocab

    def scores(self, lengths):
        """Multiplications of Q K^T and P V, whole squares, as both compute them."""
        return 2 * self.d * sum(n * n for n in lengths)


SHAPES = {
    "160m": Shape(768, 12, 2048, 12, 32000, (6, 9), (32, 200), 1000),  # LLaMA-160M
    "7b": Shape(4096, 32, 11008, 32, 32000, (18,), (200,), 1000),  # LLaMA-2-7B
    "tiny": Shape(64, 4, 176, 4, 512, (1,), (6,), 12),  # of no use but to try all this out
}


# ---- input: real lengths, random ids ----

def draw_items(path, n, n_vocab):
    """n edits (prompt tokens, ids) whose lengths are drawn without repetition from those of the 1,037 real ones."""
    lengths = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                n_prompt, n_target, count = map(int, line.split())
                lengths += [(n_prompt, n_target)] * count
    draw = random.Random(0)
    draw.shuffle(lengths)
    return [(n_prompt, [1] + [draw.randrange(3, n_vocab) for _ in range(n_prompt + n_target - 1)])
            for n_prompt, n_target in lengths[:n]]


def write_items(path, items):
    with open(path, "w", encoding="utf-8") as file:
        for n_prompt, ids in items:
            print(n_prompt, *ids, file=file)


def read_items(path, n):
    with open(path, encoding="utf-8") as file:
        rows = [list(map(int, line.split())) for line in file][:n]
    return [(row[0], row[1:]) for row in rows]


# ---- operations ----

def flop_padded(shape, items, layer):
    """Forward of the whole model at every position, backward to the edited FFN; the expert's own products."""
    longest, n = max(len(ids) for _, ids in items), len(items)
    rows, above = n * longest, shape.n_layer - 1 - layer
    square = shape.scores([longest] * n)
    block = shape.attention + shape.ffn
    forward = rows * (shape.n_layer * block + shape.head + shape.ffn) + shape.n_layer * square
    backward = rows * (above * block + shape.head) + above * 2 * square
    return 2 * (forward + backward + rows * shape.ffn * 4 // 3)


def flop_packed(shape, items, layer, ours):
    """From the edited FFN up, rows without padding, last FFN and logits at targets. ours: the edited host FFN is held,
    and the last layer's queries and attention output are computed at targets only."""
    rows, targets = sum(len(ids) for _, ids in items), sum(len(ids) - n for n, ids in items)
    above = shape.n_layer - 1 - layer
    square = shape.scores([len(ids) for _, ids in items])
    whole = above * shape.attention + (above - 1) * shape.ffn
    up = rows * whole + targets * (shape.ffn + shape.head)
    if ours:
        up -= (rows - targets) * shape.attention // 2
    forward = up + rows * (shape.ffn if ours else 2 * shape.ffn) + above * square
    backward = up + above * 2 * square + rows * shape.ffn * 4 // 3
    return 2 * (forward + backward)


def flop_evaluation(shape, items, batch):
    """Ours: every row of all layers but the last, which is computed at targets. Padded: see evaluate_padded."""
    ours = padded = 0
    block = shape.attention + shape.ffn
    for first in range(0, len(items), batch):
        part = items[first:first + batch]
        longest, n = max(len(ids) for _, ids in part), len(part)
        padded += n * longest * (shape.n_layer * block + shape.head + shape.ffn)
        padded += shape.n_layer * shape.scores([longest] * n)
    rows, targets = sum(len(ids) for _, ids in items), sum(len(ids) - n for n, ids in items)
    ours = rows * ((shape.n_layer - 1) * block + shape.attention // 2 + shape.ffn)
    ours += targets * (shape.attention // 2 + shape.ffn + shape.head)
    ours += shape.n_layer * shape.scores([len(ids) for _, ids in items])
    return 2 * ours, 2 * padded
