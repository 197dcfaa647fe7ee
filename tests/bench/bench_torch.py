"""The edit step of LEMoE in PyTorch, twice, for comparison only (edit_step.py calls it).

Padded: as peers run it. One padded batch, transformers' whole model from token ids, logits at every position,
cross-entropy on the targets, torch's default AdamW. The base model is frozen, so autograd stops at the edited FFN.
Packed: the same update with our ideas: rows at the edited FFN's input computed once, sequences end to end without
padding, logits and last FFN at target rows only, fused AdamW.

Both train one expert (random gate and up, zero down) and the router's key and projection, gate = softmax over the one
expert there is, clip 1. With a zero down matrix the first loss is the base model's: it has to equal ours.
"""
import os
import time

import torch
from torch.nn import Parameter
from torch.nn.functional import cross_entropy, linear, rms_norm, scaled_dot_product_attention, silu
from transformers import LlamaConfig, LlamaForCausalLM

LR, CLIP = 2e-4, 1.0
# CPU time: for one thread on a machine that others use too.
clock = time.process_time if os.environ.get("BENCH_CPU_CLOCK") else time.perf_counter


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
        return y + self.adaptor.weights(self.features)[:, None, None] * self.adaptor(x)


def load(folder):
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    return model.requires_grad_(False).eval()


def features_of(model, items):
    """Mean embedding of each prompt without BOS."""
    table = model.model.embed_tokens.weight
    return torch.stack([table[ids[1:n_prompt]].mean(0) for n_prompt, ids in items])


class Step:
    """What both have in common: an update, its seconds, and the loss it began with."""

    def __init__(self, model, layer, **optimiser):
        d, width = model.config.hidden_size, model.config.intermediate_size
        self.adaptor = Adaptor(d, width)
        self.optimiser = torch.optim.AdamW(self.adaptor.parameters(), lr=LR, weight_decay=0.0, **optimiser)
        self.loss = None

    def __call__(self):
        begin = clock()
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.forward()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.adaptor.parameters(), CLIP)
        self.optimiser.step()
        self.loss = loss.item()
        return clock() - begin


def padded(items):
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
    return ids, mask, targets, weights


class PaddedStep(Step):
    def __init__(self, model, layer, items):
        super().__init__(model, layer)
        self.model, self.ids, self.mask, self.targets, self.weights = model, *padded(items)
        self.layer = model.model.layers[layer]
        self.bypass = Bypass(self.layer.mlp, self.adaptor)
        self.bypass.features = features_of(model, items)

    def forward(self):
        self.layer.mlp = self.bypass
        logits = self.model(input_ids=self.ids, attention_mask=self.mask, use_cache=False).logits
        self.layer.mlp = self.bypass.host
        nll = cross_entropy(logits.flatten(0, 1), self.targets.flatten(), reduction="none", ignore_index=-100)
        return (nll * self.weights.flatten()).sum()


class PackedStep(Step):
    def __init__(self, model, layer, items):
        super().__init__(model, layer, fused=True)
        self.model, self.layers = model, model.model.layers[layer:]
        self.n_head = model.config.num_attention_heads
        self.eps = model.config.rms_norm_eps
        items = sorted(items, key=lambda item: len(item[1]))
        lengths = [len(ids) for _, ids in items]
        self.features = features_of(model, items)
        self.edit = torch.repeat_interleave(torch.arange(len(items)), torch.tensor(lengths))
        self.buckets = [(n, lengths.count(n)) for n in sorted(set(lengths))]
        self.find_targets(items)
        self.rows = self.compute_rows(items, layer)
        position = torch.cat([torch.arange(n) for n in lengths])
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
        self.target_rows, self.target_ids, self.weights = torch.tensor(rows), torch.tensor(ids), torch.tensor(weights)

    @torch.no_grad()
    def compute_rows(self, items, layer):
        """Residual rows before the edited FFN, by a hook on its norm."""
        ids, mask, _, _ = padded(items)
        kept = []
        norm = self.layers[0].post_attention_layernorm
        hook = norm.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        self.model.model(input_ids=ids, attention_mask=mask, use_cache=False)
        hook.remove()
        return kept[0][mask.bool()].contiguous()

    def rotate(self, x):
        half = x.shape[-1] // 2
        turned = torch.cat((-x[..., half:], x[..., :half]), -1)
        return x * self.cos + turned * self.sin

    def norm(self, x, weight):
        return rms_norm(x, (x.shape[-1],), weight, self.eps)

    def attention(self, layer, x):
        h = self.norm(x, layer.input_layernorm.weight)
        a = layer.self_attn
        q, k, v = (linear(h, w.weight).unflatten(-1, (self.n_head, -1)) for w in (a.q_proj, a.k_proj, a.v_proj))
        q, k = self.rotate(q), self.rotate(k)
        out, begin = [], 0
        for n, count in self.buckets:  # sequences of one length: a batch without padding
            end = begin + n * count
            q_n, k_n, v_n = (t[begin:end].unflatten(0, (count, n)).transpose(1, 2) for t in (q, k, v))
            y = scaled_dot_product_attention(q_n, k_n, v_n, is_causal=True)
            out.append(y.transpose(1, 2).flatten(0, 1).flatten(1))
            begin = end
        return x + linear(torch.cat(out), a.o_proj.weight)

    def host(self, layer, h):
        return ffn(h, layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight, layer.mlp.down_proj.weight)

    def forward(self):
        edited = self.layers[0]
        h = self.norm(self.rows, edited.post_attention_layernorm.weight)
        gate = self.adaptor.weights(self.features)[self.edit][:, None]
        x = self.rows + self.host(edited, h) + gate * self.adaptor(h)
        for layer in self.layers[1:]:
            x = self.attention(layer, x)
            if layer is self.layers[-1]:
                x = x[self.target_rows]
            x = x + self.host(layer, self.norm(x, layer.post_attention_layernorm.weight))
        logits = linear(self.norm(x, self.model.model.norm.weight), self.model.lm_head.weight)
        return (cross_entropy(logits, self.target_ids, reduction="none") * self.weights).sum()


@torch.no_grad()
def evaluate_padded(model, items, batch=32):
    """Teacher-forced predictions at the targets, padded batches in the items' order, all logits. Seconds."""
    begin, correct = clock(), 0
    for first in range(0, len(items), batch):
        ids, mask, targets, _ = padded(items[first:first + batch])
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        correct += int((logits.argmax(-1) == targets).sum())
    return clock() - begin


def save_random_model(folder, d, n_layer, d_ff, n_head, n_vocab):
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=d, num_hidden_layers=n_layer, intermediate_size=d_ff, num_attention_heads=n_head,
                         num_key_value_heads=n_head, vocab_size=n_vocab, max_position_embeddings=2048,
                         tie_word_embeddings=False)
    LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)


def save_bf16(source, folder):
    """The same model with its weights rounded to bf16."""
    LlamaForCausalLM.from_pretrained(source, dtype=torch.bfloat16).save_pretrained(folder)
