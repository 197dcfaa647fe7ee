#!/usr/bin/env python3
"""Writes fixtures/, what the golden tests compare lemoe with.

fixtures/NAME/ is a Hugging Face model folder of random weights with expected.safetensors: inputs, initial weights of
the adaptors, and what PyTorch and Hugging Face transformers compute from them in fp32. With --tokenizer DATA it is
fixtures/tokenizer.json instead: facts about the ids that the sentencepiece package gives to the texts under DATA.

Needs torch, transformers and safetensors, or sentencepiece; the tests need none of them. Another version of torch or
another machine changes last bits.
"""
import argparse
from pathlib import Path

import torch

import golden_moe
from golden_lemoe import FFN_MATRICES, LORA_MATRICES, Lemoe, batch_loss, mean_embedding, target_logits, target_nll
from golden_models import FIXTURES, SIZES, Source, batch_tensors, random_batch, random_model, save

HERE = Path(__file__).resolve().parent
WIDTH, RANK, KEY_DIM = 24, 4, 8
CASES = {"plain": {"lr": 5e-3, "steps": 5, "weight_decay": 0.0, "clip": 0.0},
         "decayed": {"lr": 5e-3, "steps": 5, "weight_decay": 0.1, "clip": 1.0}}
MOE = {"lr": 5e-3, "steps": 5, "weight_decay": 0.0, "clip": 0.0, "balance": 0.1, "top_k": 1}
FT_M = {"lr": 5e-3, "steps": 10, "weight_decay": 0.0, "clip": 0.0}


def prefixed(prefix, tensors):
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def copies(tensors):
    return {name: value.detach().clone() for name, value in tensors.items()}


def gradients(tensors):
    return {name: value.grad.clone() for name, value in tensors.items()}


def step_tensors(records):
    """Loss and gradient norm of every step."""
    return {"loss": torch.tensor([loss for loss, _ in records]), "norm": torch.tensor([norm for _, norm in records])}


# ---- where everything starts


def initial_weights(source):
    d, d_ff = SIZES["hidden_size"], SIZES["intermediate_size"]
    shapes = {"gate": (WIDTH, d), "up": (WIDTH, d), "down": (d, WIDTH)}
    lora = {"gate_a": (RANK, d), "gate_b": (d_ff, RANK), "up_a": (RANK, d), "up_b": (d_ff, RANK),
            "down_a": (RANK, d_ff), "down_b": (d, RANK)}
    return {"expert0": {name: source.normal(*shapes[name], std=0.2) for name in FFN_MATRICES},
            "expert1": {name: source.normal(*shapes[name], std=0.2) for name in FFN_MATRICES},
            "lora": {name: source.normal(*lora[name], std=0.2) for name in LORA_MATRICES},
            "keys": {name: source.normal(d, std=0.3) for name in ("key0", "key1")},
            "projection": {"w_down": source.normal(KEY_DIM, d, std=0.7), "w_up": source.normal(d, KEY_DIM, std=0.7)},
            "token_router": source.normal(2, d, std=0.3)}


def initial_tensors(initial):
    nested = [prefixed(f"initial.{name}", initial[name]) for name in ("expert0", "expert1", "lora")]
    flat = [prefixed("initial", initial[name]) for name in ("keys", "projection")]
    flat.append({"initial.token_router": initial["token_router"]})
    return {name: value for part in nested + flat for name, value in part.items()}


def setting_tensors(fixture):
    adaptor = {"layer": fixture["layer"], "lambda": fixture["scale"], "width": WIDTH, "rank": RANK, "key_dim": KEY_DIM}
    sections = {"adaptor": adaptor, **CASES, "moe": MOE, "ft_m": FT_M}
    return {f"setting.{section}.{name}": torch.tensor([float(value)])
            for section, settings in sections.items() for name, value in settings.items()}


# ---- the model alone


class ResidualStream:
    """Keeps the residual stream, and its gradient, before the FFN of a layer: half layer 2 * layer + 1."""

    def __init__(self, model, layer):
        self.rows = []
        norm = model.model.layers[layer].post_attention_layernorm
        self.hook = norm.register_forward_pre_hook(lambda _, args: self.keep(args[0]))

    def keep(self, x):
        x.retain_grad()
        self.rows.append(x)

    def close(self):
        self.hook.remove()
        return torch.cat([x[0].detach() for x in self.rows]), torch.cat([x.grad[0] for x in self.rows])


def embedded(model, batch):
    """Leaves that stand for the embeddings, so that gradients flow although all weights are frozen."""
    return [model.get_input_embeddings()(ids).detach().requires_grad_() for ids, _ in batch]


def model_tensors(model, layer, batch):
    embeddings = embedded(model, batch)
    down = model.model.layers[layer].mlp.down_proj.weight.requires_grad_()
    stream = ResidualStream(model, layer)
    loss = batch_loss(model, batch, embeddings=embeddings)
    loss.backward()
    cut_rows, d_cut = stream.close()
    with torch.no_grad():
        out = {"logits": torch.cat([target_logits(model, s) for s in batch]),
               "nll": torch.cat([target_nll(model, s) for s in batch]),
               "embedding_mean": torch.stack([mean_embedding(model, s) for s in batch])}
    out |= {"loss": loss[None], "cut_rows": cut_rows, "d_cut": d_cut, "d_down": down.grad.clone(),
            "d_embedding": torch.cat([e.grad for e in embeddings])}
    down.grad = None
    down.requires_grad_(False)
    return prefixed("model", out)


def ft_m_tensors(model, layer, batch):
    """FT-M: AdamW on one down_proj; the model is put back."""
    down = model.model.layers[layer].mlp.down_proj.weight.requires_grad_()
    pristine, records = down.detach().clone(), []
    optimiser = torch.optim.AdamW([down], lr=FT_M["lr"], weight_decay=FT_M["weight_decay"], foreach=False)
    for _ in range(FT_M["steps"]):
        optimiser.zero_grad()
        loss = batch_loss(model, batch)
        loss.backward()
        records.append((loss.item(), down.grad.norm().item()))
        optimiser.step()
    after = down.detach().clone()
    down.requires_grad_(False).copy_(pristine)
    down.grad = None
    return prefixed("ft_m", {"down": after, **step_tensors(records)})


# ---- LEMoE


def gradient_tensors(model, fixture, initial, batch, experts):
    """Gradients of the second batch, two keys present, before any step."""
    lemoe = Lemoe(model, fixture["layer"], fixture["scale"], initial["projection"])
    for i, expert in enumerate(experts):
        lemoe.insert(initial[expert], initial["keys"][f"key{i}"])
    stream = ResidualStream(model, fixture["layer"])
    embeddings = embedded(model, batch)
    loss = batch_loss(model, batch, before=lambda s: lemoe.send(s, -1), embeddings=embeddings)
    loss.backward()
    _, d_cut = stream.close()
    lemoe.close()
    gates = torch.stack([lemoe.probabilities(s)[-1] for s in batch])
    assert gates.max() < 0.99 and gates.min() > 0.01, f"gates {gates} leave the router without a gradient"
    return {**gradients(lemoe.trainable()), "d_cut": d_cut, "loss": loss[None]}


def started(initial, name, zero_down):
    expert = dict(initial[name])
    if zero_down:
        expert["down"] = torch.zeros_like(expert["down"])
    return expert


def edit_tensors(model, fixture, initial, batches, case, zero_down):
    """Two batches of an edit: weights after each, loss and gradient norm of every step, what inference then does."""
    lemoe = Lemoe(model, fixture["layer"], fixture["scale"], initial["projection"])
    out, records = {}, []
    for i, batch in enumerate(batches):
        lemoe.insert(started(initial, f"expert{i}", zero_down), initial["keys"][f"key{i}"])
        records += lemoe.train(batch, case)
        out |= prefixed(f"batch{i}", copies(lemoe.trainable()))
    both = [s for batch in batches for s in batch]
    routes = [lemoe.route(s) for s in both]
    check_edit(records, routes, case)
    with torch.no_grad():
        nll = []
        for sequence, (expert, _, _) in zip(both, routes):
            lemoe.send(sequence, expert)
            nll.append(target_nll(model, sequence))
    lemoe.close()
    return {**out, **step_tensors(records), "nll": torch.cat(nll),
            "route": torch.tensor([[expert, gate] for expert, gate, _ in routes])}


def check_edit(records, routes, case):
    """A fixture has to show what it is for."""
    assert {expert for expert, _, _ in routes} == {0, 1}, f"inference uses one expert only: {routes}"
    assert min(margin for _, _, margin in routes) > 1e-2, f"a route is a near-tie: {routes}"
    assert not case["clip"] or sum(norm > case["clip"] for _, norm in records) >= 2, f"clipping hardly acts: {records}"


def moe_tensors(model, fixture, initial, batch):
    host, experts = model.model.layers[fixture["layer"]].mlp, [initial["expert0"], initial["expert1"]]
    bypass = golden_moe.MoeBypass(host, experts, initial["token_router"], fixture["scale"], MOE["top_k"])
    records, after = golden_moe.train(model, fixture["layer"], bypass, batch, MOE)
    return prefixed("moe", {**after, **step_tensors(records)})


# ---- one fixture


def check_window(model, layer, batch, expected):
    """The sliding window has to matter."""
    window, model.config.sliding_window = model.config.sliding_window, None
    with torch.no_grad():
        wide = torch.cat([target_logits(model, s) for s in batch])
    model.config.sliding_window = window
    assert (wide - expected).norm() / expected.norm() > 0.05, "the window changes nothing"


def make(name):
    fixture = FIXTURES[name]
    source = Source(fixture["seed"])
    model = random_model(fixture, source)
    batches = [random_batch(source), random_batch(source)]
    initial = initial_weights(source)
    expected = setting_tensors(fixture) | initial_tensors(initial)
    for i, batch in enumerate(batches):
        expected |= prefixed(f"batch{i}", batch_tensors(batch))
    expected |= model_tensors(model, fixture["layer"], batches[0])
    if getattr(model.config, "sliding_window", None):
        check_window(model, fixture["layer"], batches[0], expected["model.logits"])
    expected |= ft_m_tensors(model, fixture["layer"], batches[0])
    expected |= moe_tensors(model, fixture, initial, batches[0])
    expected |= prefixed("gradient", gradient_tensors(model, fixture, initial, batches[1], ["expert0", "expert1"]))
    expected |= prefixed("lora", gradient_tensors(model, fixture, initial, batches[1], ["lora", "lora"]))
    for case, settings in CASES.items():
        expected |= prefixed(case, edit_tensors(model, fixture, initial, batches, settings, zero_down=case == "plain"))
    save(HERE / "fixtures" / name, model, expected, fixture["seed"])
    return expected


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="one of " + ", ".join(FIXTURES) + "; default: all")
    parser.add_argument("--tokenizer", metavar="DATA", help="the folder with zsre/, tokenizer/ and ckpt/")
    arguments = parser.parse_args()
    if arguments.tokenizer:
        import golden_tokenizer

        facts = golden_tokenizer.make(arguments.tokenizer, HERE / "fixtures" / "tokenizer.json")
        print(f"tokenizer: {sum(fact['texts'] for fact in facts)} texts")
        return
    torch.set_num_threads(1)
    for name in arguments.names or FIXTURES:
        print(f"{name}: {len(make(name))} tensors")


if __name__ == "__main__":
    main()
