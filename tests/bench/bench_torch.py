"""The edit step of LEMoE in PyTorch, for comparison only (edit_step.py calls it).

Padded: as peers run it. One padded batch, transformers' whole model from token ids, logits at every position,
cross-entropy on the targets, torch's default AdamW. The base model is frozen, so autograd stops at the edited FFN.
Packed: the same update with our ideas: rows at the edited FFN's input computed once, sequences end to end without
padding, logits and last FFN at target rows only, fused AdamW. Eager, with attention in batches of equal length; or with
attention padded for itself alone, which takes few calls, and the update captured as one CUDA graph, its blocks compiled
before or not.

All train one expert (random gate and up, zero down) and the router's key and projection, gate = softmax over the one
expert there is, clip 1. With a zero down matrix the first loss is the base model's: it has to equal ours.

What is computed in which precision. fp32: everything, products without TF32 (torch's default). bf16: frozen weights are
stored as bf16 and what trains as fp32, with fp32 gradients and AdamW; the forward runs under autocast(bfloat16), so every
product has bf16 operands, fp32 sums and a bf16 result, what trains being rounded once an update; residual stream and
attention are bf16, norms are computed in fp32 and rounded, softmax and cross-entropy are fp32; the backward takes the
types of the forward, and a trained weight's gradient is a bf16 product widened to fp32. Ours multiplies the same operands
as bf16, all but the router's, and keeps results, residual stream and attention in fp32: more bytes, not fewer operations.
"""
import os
import time
from statistics import median

import torch
from torch.nn import Parameter
from torch.nn.functional import cross_entropy, linear, rms_norm, scaled_dot_product_attention, silu
from transformers import LlamaConfig, LlamaForCausalLM

LR, CLIP = 2e-4, 1.0
# CPU time: for one thread on a machine that others use too.
clock = time.process_time if os.environ.get("BENCH_CPU_CLOCK") else time.perf_counter


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def wait(device):
    """Until the device has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def give_back(device):
    """What PyTorch holds of the device's memory without using it."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()


def ffn(x, gate, up, down):
    return linear(silu(linear(x, gate)) * linear(x, up), down)


class Adaptor(torch.nn.Module):
    """One expert and the forced router: y = gate * f(x)."""

    def __init__(self, d, width):
        super().__init__()
        generator = torch.Generator().manual_seed(1)

        def draw(rows, columns, std):
            return Parameter(torch.randn(rows, columns, generator=generator) * std)

        self.gate, self.up = draw(width, d, 0.02), draw(width, d, 0.02)
        self.down = Parameter(torch.zeros(d, width))
        self.w_down, self.w_up, self.keys = draw(d // 4, d, 0.02), draw(d, d // 4, 0.02), draw(1, d, 0.01)

    def weights(self, features):
        """[n_edit] weight of the newest expert."""
        values = linear(silu(linear(features, self.w_down)), self.w_up)
        return torch.softmax(linear(values, self.keys), dim=-1)[:, -1]

    def forward(self, x):
        return ffn(x, self.gate, self.up, self.down)


class Bypass(torch.nn.Module):
    """Stands where the host FFN stood."""

    def __init__(self, host, adaptor):
        super().__init__()
        self.host, self.adaptor, self.features = host, adaptor, None

    def forward(self, x):
        y = self.host(x)
        if self.features is None:
            return y
        return y + (self.adaptor.weights(self.features)[:, None, None] * self.adaptor(x)).to(y.dtype)


def load(folder, device="cpu", dtype="fp32"):
    model = LlamaForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype], attn_implementation="sdpa").to(device)
    return model.requires_grad_(False).eval()


def features_of(model, items):
    """Mean embedding of each prompt without BOS."""
    table = model.model.embed_tokens.weight
    return torch.stack([table[ids[1:n_prompt]].mean(0) for n_prompt, ids in items])


class Step:
    """What all have in common: an update, its seconds, and the loss it began with."""

    def __init__(self, model, **optimiser):
        d, width = model.config.hidden_size, model.config.intermediate_size
        self.device, self.is_bf16 = model.device, model.dtype == torch.bfloat16
        self.adaptor = Adaptor(d, width).to(self.device)
        self.optimiser = torch.optim.AdamW(self.adaptor.parameters(), lr=LR, weight_decay=0.0, **optimiser)
        self.loss = None

    def update(self):
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bf16, cache_enabled=False):
            loss = self.forward()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.adaptor.parameters(), CLIP)
        self.optimiser.step()
        return loss.detach()

    def __call__(self):
        begin = clock()
        self.loss = self.update().item()  # waits for the device
        return clock() - begin


class Captured:
    """A step's update as one CUDA graph. Where there is no CUDA, the update as it is."""

    def __init__(self, step):
        self.step, self.loss, self.graph, self.result = step, None, None, None

    def capture(self):
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                self.step.update()
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        self.step.optimiser.zero_grad(set_to_none=True)  # gradients are to lie in the graph's memory
        with torch.cuda.graph(self.graph):
            self.result = self.step.update()

    def __call__(self):
        if not self.graph:
            seconds = self.step()
            self.loss = self.step.loss
            if self.step.device.type == "cuda":
                self.capture()
            return seconds
        begin = clock()
        self.graph.replay()
        self.loss = self.result.item()
        return clock() - begin


def padded(items, device="cpu"):
    """ids, mask, targets and their weights in the loss, as [n_edit, longest]; targets stand where they are predicted."""
    longest = max(len(ids) for _, ids in items)
    ids = torch.zeros(len(items), longest, dtype=torch.long)
    mask, targets = torch.zeros_like(ids), torch.full_like(ids, -100)
    weights = torch.zeros(ids.shape)
    for row, (n_prompt, own) in enumerate(items):
        n = len(own)
        ids[row, :n] = torch.tensor(own)
        mask[row, :n] = 1
        targets[row, n_prompt - 1:n - 1] = torch.tensor(own[n_prompt:])
        weights[row, n_prompt - 1:n - 1] = 1 / (len(items) * (n - n_prompt))
    return [tensor.to(device) for tensor in (ids, mask, targets, weights)]


class PaddedStep(Step):
    def __init__(self, model, layer, items):
        super().__init__(model)
        self.model, self.ids, self.mask, self.targets, self.weights = model, *padded(items, model.device)
        self.layer = model.model.layers[layer]
        self.bypass = Bypass(self.layer.mlp, self.adaptor)
        self.bypass.features = features_of(model, items)

    def forward(self):
        self.layer.mlp = self.bypass
        logits = self.model(input_ids=self.ids, attention_mask=self.mask, use_cache=False).logits
        self.layer.mlp = self.bypass.host
        nll = cross_entropy(logits.flatten(0, 1), self.targets.flatten(), reduction="none", ignore_index=-100)
        return (nll * self.weights.flatten()).sum()


class Pad(torch.autograd.Function):
    """Rows put in their slots among zeros. As slots are all different, no sum is needed either way."""

    @staticmethod
    def forward(ctx, rows, slots, n_slot):
        ctx.save_for_backward(slots)
        return rows.new_zeros(n_slot, *rows.shape[1:]).index_copy(0, slots, rows)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class Unpad(torch.autograd.Function):
    """Rows taken from their slots."""

    @staticmethod
    def forward(ctx, padded_rows, slots):
        ctx.save_for_backward(slots)
        ctx.n_slot = len(padded_rows)
        return padded_rows.index_select(0, slots)

    @staticmethod
    def backward(ctx, grad):
        return grad.new_zeros(ctx.n_slot, *grad.shape[1:]).index_copy(0, ctx.saved_tensors[0], grad), None


def weights_of(layer):
    a, mlp = layer.self_attn, layer.mlp
    return {"norm": layer.input_layernorm.weight, "q": a.q_proj.weight, "k": a.k_proj.weight, "v": a.v_proj.weight,
            "o": a.o_proj.weight, "ffn_norm": layer.post_attention_layernorm.weight,
            "ffn": (mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight)}


class PackedStep(Step):
    """pads: attention is padded for itself; else in buckets of equal length."""

    def __init__(self, model, layer, items, pads=False, **optimiser):
        super().__init__(model, fused=True, **optimiser)
        self.model, self.layers = model, model.model.layers[layer:]
        self.weights_of_layers = [weights_of(layer) for layer in self.layers]
        self.n_head = model.config.num_attention_heads
        self.eps = model.config.rms_norm_eps
        self.attend = self.attend_padded if pads else self.attend_in_buckets
        items = sorted(items, key=lambda item: len(item[1]))
        lengths = [len(ids) for _, ids in items]
        self.features = features_of(model, items)
        self.edit = torch.repeat_interleave(torch.arange(len(items)), torch.tensor(lengths)).to(self.device)
        self.buckets = [(n, lengths.count(n)) for n in sorted(set(lengths))]
        self.find_targets(items)
        self.rows = self.compute_rows(items)
        position = torch.cat([torch.arange(n) for n in lengths]).to(self.device)
        cos, sin = model.model.rotary_emb(self.rows, position[None])
        self.cos, self.sin = cos[0][:, None], sin[0][:, None]

    def find_targets(self, items):
        rows, ids, weights, begin = [], [], [], 0
        for n_prompt, own in items:
            n = len(own) - n_prompt
            rows += range(begin + n_prompt - 1, begin + len(own) - 1)
            ids += own[n_prompt:]
            weights += [1 / (len(items) * n)] * n
            begin += len(own)
        tensors = (torch.tensor(values).to(self.device) for values in (rows, ids, weights))
        self.target_rows, self.target_ids, self.target_weights = tensors

    @torch.no_grad()
    def compute_rows(self, items):
        """Residual rows before the edited FFN, by a hook on its norm."""
        ids, mask, _, _ = padded(items, self.device)
        kept = []
        norm = self.layers[0].post_attention_layernorm
        hook = norm.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        self.model.model(input_ids=ids, attention_mask=mask, use_cache=False)
        hook.remove()
        self.padded_shape, self.slots = tuple(mask.shape), mask.flatten().nonzero()[:, 0]
        return kept[0][mask.bool()].contiguous()

    def rotate(self, x):
        half = x.shape[-1] // 2
        turned = torch.cat((-x[..., half:], x[..., :half]), -1)
        return x * self.cos + turned * self.sin

    def norm(self, x, weight):
        return rms_norm(x, (x.shape[-1],), weight, self.eps)

    def attend_in_buckets(self, q, k, v):
        out, begin = [], 0
        for n, count in self.buckets:  # sequences of one length: a batch without padding
            end = begin + n * count
            q_n, k_n, v_n = (t[begin:end].unflatten(0, (count, n)).transpose(1, 2) for t in (q, k, v))
            y = scaled_dot_product_attention(q_n, k_n, v_n, is_causal=True)
            out.append(y.transpose(1, 2).flatten(0, 1).flatten(1))
            begin = end
        return torch.cat(out)

    def attend_padded(self, q, k, v):
        """Padding stands at the end, where no row that counts looks."""
        n_slot = self.padded_shape[0] * self.padded_shape[1]
        q, k, v = (Pad.apply(t, self.slots, n_slot).unflatten(0, self.padded_shape).transpose(1, 2) for t in (q, k, v))
        y = scaled_dot_product_attention(q, k, v, is_causal=True)
        return Unpad.apply(y.transpose(1, 2).flatten(0, 1), self.slots).flatten(1)

    def enter(self, weights, rows, features):
        """The edited FFN and the expert beside it."""
        h = self.norm(rows, weights["ffn_norm"])
        gate = self.adaptor.weights(features)[self.edit][:, None]
        return rows + ffn(h, *weights["ffn"]) + (gate * self.adaptor(h)).to(rows.dtype)

    def block(self, weights, x, wanted):
        """A whole layer. wanted: the rows that its FFN answers to; None: all."""
        h = self.norm(x, weights["norm"])
        q, k, v = (linear(h, weights[name]).unflatten(-1, (self.n_head, -1)) for name in "qkv")
        x = x + linear(self.attend(self.rotate(q), self.rotate(k), v), weights["o"])
        if wanted is not None:
            x = x[wanted]
        return x + ffn(self.norm(x, weights["ffn_norm"]), *weights["ffn"])

    def leave(self, x, norm, head):
        logits = linear(self.norm(x, norm), head)
        return (cross_entropy(logits, self.target_ids, reduction="none") * self.target_weights).sum()

    def forward(self):
        edited, *above, last = self.weights_of_layers
        x = self.enter(edited, self.rows, self.features)
        for weights in above:
            x = self.block(weights, x, None)
        return self.leave(self.block(last, x, self.target_rows), self.model.model.norm.weight, self.model.lm_head.weight)


def packed(kind, model, layer, items):
    """A packed step: eager; captured (CUDA graph); compiled, and captured."""
    if kind == "eager":
        return PackedStep(model, layer, items)
    step = PackedStep(model, layer, items, pads=True, capturable=model.device.type == "cuda")
    if kind == "compiled":  # layers differ in their weights alone, which are arguments: compiled once
        step.enter, step.block, step.leave = (torch.compile(f) for f in (step.enter, step.block, step.leave))
    return Captured(step)


def products_alone(shapes, device, dtype, rounds=5):
    """Seconds of these products (kind, m, n, k) by PyTorch's library, one after the other with nothing between them:
    random operands and results of that type, four sets of each shape in turn, so that none is found in a cache."""
    sets = {}
    for kind, m, n, k in set(shapes):
        a, b = ((k, m) if kind == "dw" else (m, k)), ((n, k) if kind == "y" else (k, n))
        for _ in range(4):
            left, right = (torch.randn(s, device=device, dtype=DTYPES[dtype]) for s in (a, b))
            operands = (left.t() if kind == "dw" else left, right.t() if kind == "y" else right)
            sets.setdefault((kind, m, n, k), []).append((operands, torch.empty(m, n, device=device, dtype=DTYPES[dtype])))

    def once():
        wait(device)
        begin = clock()
        for i, shape in enumerate(shapes):
            operands, result = sets[shape][i % 4]
            torch.mm(*operands, out=result)
        wait(device)
        return clock() - begin

    once()
    seconds = median(once() for _ in range(rounds))
    sets.clear()
    give_back(device)
    return seconds


@torch.no_grad()
def evaluate_padded(model, items, batch=32):
    """Teacher-forced predictions at the targets, padded batches in the items' order, all logits. Seconds."""
    begin, correct = clock(), 0
    for first in range(0, len(items), batch):
        ids, mask, targets, _ = padded(items[first:first + batch], model.device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        correct += int((logits.argmax(-1) == targets).sum())
    return clock() - begin


def save_random_model(folder, shape, dtype="fp32", device="cpu"):
    """A Hugging Face folder in shards. device: where the weights are drawn, which decides what they are."""
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=shape.d, num_hidden_layers=shape.n_layer, intermediate_size=shape.d_ff,
                         num_attention_heads=shape.n_head, num_key_value_heads=shape.n_head, vocab_size=shape.n_vocab,
                         max_position_embeddings=2048, tie_word_embeddings=False)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    model.to(DTYPES[dtype]).save_pretrained(folder, max_shard_size="4GB")
    del model
    give_back(device)


def save_bf16(source, folder):
    """The same model with its weights rounded to bf16."""
    LlamaForCausalLM.from_pretrained(source, dtype=torch.bfloat16).save_pretrained(folder)
