#!/usr/bin/env python3
"""Asks a model questions before and after it was edited.

    ask_edited.py MODEL ADAPTOR "Who founded Avala?" ["..."]     questions of your own
    ask_edited.py MODEL ADAPTOR --results RUN.h5 [--edits 5]     edits of that run, with their targets

MODEL is the Hugging Face folder the run was made with, ADAPTOR the adaptor.safetensors it left. Needs torch,
transformers and safetensors (pip install 'lemoe-analysis[transformers]').
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a checkout; installed, it changes nothing

import torch
from lemoe_analysis.hf_adaptor import AdaptorError, attach
from transformers import AutoModelForCausalLM, AutoTokenizer


def answer(model, tokenizer, question: str, max_new_tokens: int) -> str:
    """Greedy, to the end of the line: edits are short answers, and what follows one is the model's own."""
    inputs = tokenizer(question, return_tensors="pt", return_token_type_ids=False).to(model.device)
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).split("\n")[0].strip()


def questions_of(path: str, n: int) -> list[tuple[str, str]]:
    """(prompt, target) of a run's first edits."""
    import h5py

    with h5py.File(path, "r") as file:
        return list(zip(*(file[f"/edit/{name}"].asstr()[:n] for name in ("prompt", "target"))))


def main(arguments: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("model")
    made.add_argument("adaptor")
    made.add_argument("questions", nargs="*")
    made.add_argument("--results", metavar="RUN.h5", help="take questions from this run's edits")
    made.add_argument("--edits", type=int, default=5, help="how many of them")
    made.add_argument("--max-new-tokens", type=int, default=12)
    options = made.parse_args(arguments)
    asked = [(question, "") for question in options.questions]
    asked += questions_of(options.results, options.edits) if options.results else []
    if not asked:
        made.error("nothing to ask: name questions, or --results RUN.h5")
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    before = [answer(model, tokenizer, question, options.max_new_tokens) for question, _ in asked]
    try:
        with attach(model, options.adaptor) as adaptor:
            for (question, target), old in zip(asked, before):
                new = answer(model, tokenizer, question, options.max_new_tokens)
                expert = int(adaptor.routes[0][0])
                print(f"{question}\n  before: {old}\n  after:  {new}")
                print(f"  routed to {'no expert' if expert < 0 else f'expert {expert + 1}'}", end="")
                print(f"; target: {target}\n" if target else "\n")
    except AdaptorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
