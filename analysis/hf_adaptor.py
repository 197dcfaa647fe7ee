"""Attaches an adaptor that lemoe-run saved to a Hugging Face transformers model of the LLaMA family.

    model = AutoModelForCausalLM.from_pretrained("models/Llama-2-7b-hf", dtype=torch.float32)
    with attach(model, "results/zsre/runs/<id>/adaptor.safetensors") as adaptor:
        model.generate(**tokenizer("Who founded Avala?", return_tensors="pt"))   # routed by the prompt
    # out of the with block the model is what it was

The route of a sequence is decided by its prompt alone, once, at prefill, and holds for all that is generated. In a
forward pass over prompt and answer together (scoring, or generating without a cache), say where the prompts end:

    with adaptor.prompts(lengths=[9, 12]):
        model(input_ids, attention_mask=mask).logits

encode() gives a text's tokens and where its prompt ends by the runner's rules.

Needs torch and safetensors. What it computes is fp32, as in the runner (docs/method.md 1 and 2 have the formulas).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

KEY_ROUTERS = ("literal", "forced", "frozen_proj", "per_expert_proj", "fitted")
KNOWN = {  # values that mean something here; a newer program's are refused rather than misread
    "router": (*KEY_ROUTERS, "centroid", "nearest", "oracle"),
    "gate": ("raw", "renorm"),
    "features": ("embedding_mean", "last_hidden"),
    "granularity": ("instance", "entity", "token"),
    "normalise": ("false", "true"),
    "null": ("none", "cosine", "key"),
}
NO_EXPERT = -1


class AdaptorError(Exception):
    """The file, or the model it shall be attached to, is not what is needed; one message says why."""


# ---- text ----


@dataclass(frozen=True)
class Text:
    """Tokens of a text by the runner's rules."""

    ids: list[int]
    n_prompt: int  # first target position
    subject: tuple[int, int] | None  # tokens of the subject: (first, behind last)


def encode(tokenizer, prompt: str, target: str = "", subject: str = "") -> Text:
    """prompt + " " + target, BOS once; the prompt ends where the tokens of prompt and whole text part."""
    alone = tokenizer(prompt)["input_ids"]
    if not target:
        return Text(alone, len(alone), _subject_tokens(tokenizer, prompt, prompt, subject, len(alone)))
    text = f"{prompt} {target.strip()}"
    ids = tokenizer(text)["input_ids"]
    shared = next((i for i, (a, b) in enumerate(zip(alone, ids)) if a != b), min(len(alone), len(ids)))
    shared = min(shared, len(ids) - 1)  # at least one target
    return Text(ids, shared, _subject_tokens(tokenizer, text, prompt, subject, shared))


def _subject_tokens(tokenizer, text: str, prompt: str, subject: str, n_prompt: int) -> tuple[int, int] | None:
    """Prompt tokens that touch the subject's first occurrence in the prompt."""
    at = prompt.find(subject) if subject else -1
    if at < 0:
        return None
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    touched = [i for i, (a, b) in enumerate(offsets[:n_prompt]) if b > at and a < at + len(subject) and a != b]
    return (touched[0], touched[-1] + 1) if touched else None


# ---- the file ----


@dataclass(frozen=True)
class Saved:
    """A file's tensors in fp32, and its settings: keys of the configuration without their section."""

    path: Path
    settings: dict[str, str]
    tensors: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise AdaptorError(f"{self.path}: has no tensor {name}, which router {self.settings.get('router')} needs")
        return self.tensors[name]

    def count(self, pattern: str) -> int:
        """How many tensors are named by that pattern with 0, 1, 2 ... in its place."""
        n = 0
        while pattern.format(n) in self.tensors:
            n += 1
        return n


def read(path: str | Path) -> Saved:
    """Raises AdaptorError for anything but a LEMoE adaptor that says how it routes."""
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            settings = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
    except Exception as error:  # safetensors raises an exception type of its own for every kind of damage
        raise AdaptorError(f"{path}: not a readable safetensors file ({error})") from error
    if settings.get("method") != "lemoe":
        raise AdaptorError(f"{path}: method is {settings.get('method', 'not given')!r}; only a lemoe adaptor attaches")
    needed = ("layer", "lambda", "router", "gate", "features", "granularity", "normalise", "null", "null_threshold")
    missing = [name for name in needed if name not in settings]
    if missing:
        raise AdaptorError(f"{path}: its metadata lacks {', '.join(missing)}; it was written by an older lemoe-run")
    for name, values in KNOWN.items():
        if settings[name] not in values:
            raise AdaptorError(f"{path}: {name} {settings[name]!r} is unknown to this script")
    return Saved(path, settings, tensors)


# ---- experts ----


class FfnExpert(nn.Module):
    """f(x) = down(silu(gate x) * up x), beside the host's FFN."""

    def __init__(self, saved: Saved, index: int):
        super().__init__()
        self.gate, self.up, self.down = (
            nn.Parameter(saved[f"expert.{index}.{name}.weight"], requires_grad=False) for name in ("gate", "up", "down")
        )

    def forward(self, x: Tensor, _host: nn.Module) -> Tensor:
        return F.linear(F.silu(F.linear(x, self.gate)) * F.linear(x, self.up), self.down)


class LoraExpert(nn.Module):
    """What low-rank changes of the host's three matrices add to its output."""

    def __init__(self, saved: Saved, index: int):
        super().__init__()
        for matrix in ("gate", "up", "down"):
            for half in ("a", "b"):
                weight = saved[f"expert.{index}.{matrix}_{half}.weight"]
                self.register_parameter(f"{matrix}_{half}", nn.Parameter(weight, requires_grad=False))

    def forward(self, x: Tensor, host: nn.Module) -> Tensor:
        gate, up = (F.linear(x, getattr(host, f"{name}_proj").weight.float()) for name in ("gate", "up"))
        before = F.silu(gate) * up
        changed_gate = gate + F.linear(F.linear(x, self.gate_a), self.gate_b)
        after = F.silu(changed_gate) * (up + F.linear(F.linear(x, self.up_a), self.up_b))
        moved = F.linear(after - before, host.down_proj.weight.float())
        return moved + F.linear(F.linear(after, self.down_a), self.down_b)


# ---- routers: features [n, d] -> (expert [n], gate [n], margin [n]) ----

Routes = tuple[Tensor, Tensor, Tensor]


class KeyRouter(nn.Module):
    """v = W_up silu(W_down e), z_i = k_i . v, top-1; one projection, or one an expert. With a null key, that is the
    first, and what it wins goes to no expert."""

    def __init__(self, saved: Saved):
        super().__init__()
        n = saved.count("router.{}.keys.weight")
        prefixes = [f"router.{i}" for i in range(n)] or ["router"]
        self.parts = nn.ModuleList(
            nn.ParameterList(
                nn.Parameter(saved[f"{p}.{name}.weight"], requires_grad=False) for name in ("keys", "w_down", "w_up")
            )
            for p in prefixes
        )
        self.n_null = int(saved.settings["null"] == "key")
        self.is_raw = saved.settings["gate"] == "raw" and saved.settings["router"] != "fitted"

    def forward(self, e: Tensor) -> Routes:
        z = torch.cat([F.linear(F.linear(F.silu(F.linear(e, down)), up), keys) for keys, down, up in self.parts], dim=1)
        best, margin = _best(z)
        p = z.softmax(dim=1).gather(1, best[:, None])[:, 0]
        gate = p if self.is_raw else torch.ones_like(p)
        expert = best - self.n_null
        return expert, torch.where(expert < 0, 0.0, gate), margin


class CentroidRouter(nn.Module):
    """The expert whose batch's mean direction is nearest."""

    def __init__(self, saved: Saved):
        super().__init__()
        self.centroids = nn.Parameter(saved["router.centroids"], requires_grad=False)

    def forward(self, e: Tensor) -> Routes:
        best, margin = _best(F.normalize(e, dim=1) @ self.centroids.T)
        return best, torch.ones(len(e), device=e.device), margin


class Anchors(nn.Module):
    """Features of all edits, of length 1, and the expert of each."""

    def __init__(self, saved: Saved):
        super().__init__()
        parts = [saved[f"anchors.{i}.features"] for i in range(saved.count("anchors.{}.features"))]
        if not parts:
            raise AdaptorError(f"{saved.path}: has no anchors, which its router or its null route needs")
        self.rows = nn.Parameter(torch.cat(parts), requires_grad=False)
        self.register_buffer("expert", torch.cat([torch.full((len(p),), i) for i, p in enumerate(parts)]))

    def cosines(self, e: Tensor) -> Tensor:
        return F.normalize(e, dim=1) @ self.rows.T


class NearestRouter(nn.Module):
    """The expert of the stored edit whose feature is nearest; of the latest among equally near ones."""

    TIE = 1e-5  # as in the runner

    def __init__(self, anchors: Anchors):
        super().__init__()
        self.anchors = anchors

    def forward(self, e: Tensor) -> Routes:
        cosine = self.anchors.cosines(e)
        nearest = cosine.max(dim=1, keepdim=True).values
        places = torch.arange(cosine.shape[1], device=e.device)
        best = torch.where(cosine >= nearest - self.TIE, places, -1).max(dim=1).values
        expert = self.anchors.expert[best]
        others = cosine.masked_fill(self.anchors.expert[None, :] == expert[:, None], -2).max(dim=1).values
        margin = nearest[:, 0] - others
        return expert, torch.ones(len(e), device=e.device), torch.where(others < -1, torch.nan, margin)


def _best(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Largest score of each row and its distance to the second; NaN where there is no second."""
    if scores.shape[1] == 1:
        return torch.zeros(len(scores), dtype=torch.long, device=scores.device), scores.new_full(
            (len(scores),), math.nan
        )
    top = scores.topk(2, dim=1)
    return scores.argmax(dim=1), top.values[:, 0] - top.values[:, 1]


def _make_router(saved: Saved, anchors: Anchors | None) -> nn.Module | None:
    """None for the oracle, which has to be told (Adaptor.force)."""
    name = saved.settings["router"]
    if name in KEY_ROUTERS:
        return KeyRouter(saved)
    return {"centroid": lambda: CentroidRouter(saved), "nearest": lambda: NearestRouter(anchors)}.get(
        name, lambda: None
    )()


# ---- attached ----


@dataclass
class _Call:
    """One forward pass of the model: what is padding, where prompts begin and end, where subjects are."""

    input_ids: Tensor
    begin: list[int]  # first real token of each row
    end: list[int]  # behind the last prompt token of each row
    subjects: Sequence[tuple[int, int] | None] | None


class Adaptor(nn.Module):
    """The adaptor's tensors, and its part in every forward pass of the model it is attached to."""

    def __init__(self, model: nn.Module, saved: Saved):
        super().__init__()
        self.saved, self.settings = saved, saved.settings
        self.per_token = self.settings["granularity"] == "token"
        is_lora = self.settings.get("expert.kind", "ffn") == "lora"
        n_experts = saved.count("expert.{}.gate_a.weight" if is_lora else "expert.{}.gate.weight")
        if n_experts == 0:
            raise AdaptorError(f"{saved.path}: holds no expert")
        self.experts = nn.ModuleList((LoraExpert if is_lora else FfnExpert)(saved, i) for i in range(n_experts))
        needs_anchors = self.settings["router"] == "nearest" or self.settings["null"] == "cosine"
        self.anchors = Anchors(saved) if needs_anchors else None
        self.router = _make_router(saved, self.anchors)
        self.threshold = float(self.settings["null_threshold"]) if self.settings["null"] == "cosine" else math.nan
        self.weight = float(self.settings["lambda"])
        self._model = [model]  # in a list: it is not a part of this module
        self._check(model)
        self.to(self._mlp.gate_proj.weight.device)
        self._told: dict[str, object] = {}
        self._call: _Call | None = None
        self.routes: Routes | None = None  # of the last prefill, [rows] or, token by token, [rows * tokens]
        decoder = model.get_decoder()
        self._hooks = [
            decoder.register_forward_pre_hook(self._before_model, with_kwargs=True),
            self._mlp.register_forward_hook(self._after_mlp),
        ]

    @property
    def _mlp(self) -> nn.Module:
        return self._model[0].get_decoder().layers[int(self.settings["layer"])].mlp

    def _check(self, model: nn.Module) -> None:
        layers, layer = len(model.get_decoder().layers), int(self.settings["layer"])
        if layer >= layers:
            raise AdaptorError(f"{self.saved.path}: sits at layer {layer}, and the model has {layers}")
        width, own = self._mlp.gate_proj.weight.shape[1], next(self.experts[0].parameters()).shape[1]
        if width != own:
            raise AdaptorError(f"{self.saved.path}: made for a model of width {own}, and this one has {width}")

    def remove(self) -> None:
        """Takes the adaptor off; the model computes what it did before, bit for bit."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def __enter__(self) -> Adaptor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.remove()

    # -- what a caller may say --

    @contextlib.contextmanager
    def prompts(
        self, lengths: Sequence[int] | None = None, subjects: Sequence[tuple[int, int] | None] | None = None
    ) -> Iterator[Adaptor]:
        """In the block, rows are routed by their first `lengths` tokens (padding left out, BOS counted) instead of by
        all of them. `subjects`: (first, behind last) token of each row's subject, for granularity entity."""
        yield from self._telling(lengths=lengths, subjects=subjects)

    @contextlib.contextmanager
    def force(self, experts: Sequence[int]) -> Iterator[Adaptor]:
        """In the block, row i goes to experts[i] with weight 1 (-1: to none). Router oracle cannot do without."""
        yield from self._telling(experts=experts)

    def _telling(self, **told: object) -> Iterator[Adaptor]:
        before = self._told
        self._told = {**before, **told}
        try:
            yield self
        finally:
            self._told = before

    # -- in the forward pass --

    def _before_model(self, _module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Notes where prompts lie; a pass that goes on after a cache keeps the routes of its prefill."""
        cache = kwargs.get("cache", kwargs.get("past_key_values"))
        goes_on = cache is not None and cache.get_seq_length() > 0
        ids = args[0] if args else kwargs.get("input_ids")
        if ids is None:
            raise AdaptorError("the adaptor routes by tokens: call the model with input_ids, not inputs_embeds")
        if goes_on and not self.per_token:
            self._call = None
            return
        self._call = self._note(ids, kwargs.get("attention_mask"))

    def _note(self, ids: Tensor, mask: Tensor | None) -> _Call:
        n_rows, n_tokens = ids.shape
        if mask is None or mask.dim() != 2 or mask.shape[1] != n_tokens:
            begin, real = [0] * n_rows, [n_tokens] * n_rows
        else:
            begin, real = mask.long().argmax(dim=1).tolist(), mask.long().sum(dim=1).tolist()
        lengths = self._told.get("lengths") or real
        if len(lengths) != n_rows or any(not 0 < n <= r for n, r in zip(lengths, real)):
            raise AdaptorError(f"prompt lengths {list(lengths)} do not fit {n_rows} rows of {real} tokens")
        return _Call(ids, begin, [b + n for b, n in zip(begin, lengths)], self._told.get("subjects"))

    def _features(self, x: Tensor) -> Tensor:
        """What a route is computed from; x is the FFN's input [rows, tokens, d]."""
        call, embed = self._call, self._model[0].get_input_embeddings().weight
        if self.per_token:
            e = embed[call.input_ids].float().flatten(0, 1)
        elif self.settings["features"] == "last_hidden":
            e = torch.stack([x[row, end - 1] for row, end in enumerate(call.end)]).float()
        else:
            e = torch.stack(
                [embed[call.input_ids[row, a:b]].float().mean(dim=0) for row, (a, b) in enumerate(self._spans())]
            )
        return F.normalize(e, dim=1) * math.sqrt(e.shape[1]) if self.settings["normalise"] == "true" else e

    def _spans(self) -> list[tuple[int, int]]:
        """Tokens to average: the prompt without BOS, or its subject where granularity is entity and one is named."""
        call, spans = self._call, []
        for row, (begin, end) in enumerate(zip(call.begin, call.end)):
            subject = call.subjects[row] if call.subjects and self.settings["granularity"] == "entity" else None
            spans.append((begin + subject[0], begin + subject[1]) if subject else (begin + 1, end))
        return spans

    def _route(self, x: Tensor) -> Routes:
        if "experts" in self._told:
            experts = torch.as_tensor(self._told["experts"], device=x.device)
            return experts, (experts >= 0).float(), torch.full((len(experts),), math.nan, device=x.device)
        if self.router is None:
            raise AdaptorError("router oracle knows the truth only in the runner; say it with adaptor.force([...])")
        e = self._features(x)
        expert, gate, margin = self.router(e)
        if not math.isnan(self.threshold):
            cosine = self.anchors.cosines(e).max(dim=1).values
            far = cosine < self.threshold
            expert, gate = torch.where(far, NO_EXPERT, expert), torch.where(far, 0.0, gate)
            margin = torch.fmin(margin, (cosine - self.threshold).abs())
        return expert, gate, margin

    def _after_mlp(self, mlp: nn.Module, args: tuple, out: Tensor) -> Tensor:
        """out + lambda g f_i(x) for the rows that have an expert; the others keep their bits."""
        x = args[0]
        if self._call is not None:
            self.routes = self._route(x)
        expert, gate, _ = self.routes
        if self.per_token:
            expert, gate = expert.view(x.shape[:2]), gate.view(x.shape[:2])
        else:
            expert, gate = (t[:, None].expand(x.shape[:2]) for t in (expert, gate))
        out = out.clone()
        for index in expert.unique().tolist():
            if index != NO_EXPERT:
                chosen = expert == index
                added = self.experts[index](x[chosen].float(), mlp) * (self.weight * gate[chosen])[:, None]
                out[chosen] = (out[chosen].float() + added).to(out.dtype)
        return out


def attach(model: nn.Module, path: str | Path) -> Adaptor:
    """Puts the adaptor of that file on the model; use it as a context manager, or call remove()."""
    return Adaptor(model, read(path))
