#!/usr/bin/env python3
"""null_cosines.py MODEL_FOLDER DATA.json LAYER [N...]: the cosines behind the null route's threshold.

Features are the FFN's input at the last prompt token, as lemoe.features last_hidden takes them; data are ZsRE records.
For each number of edits N: the cosine of paraphrases to their own edit, of an edit prompt behind another edit's whole
text to itself (genuine pairs), of edits to the nearest other edit (impostors, and those of another subject), and of each
kind of locality prompt to the nearest edit. Needs torch, transformers and sentencepiece.
"""
import json
import os
import random
import sys

import numpy as np
import sentencepiece
import torch
from transformers import LlamaForCausalLM

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98, 1.0)


class Features:
    """Unit rows of texts: the input of one FFN at the last token."""

    def __init__(self, folder, layer):
        self.sp = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
        self.model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().model
        self.model.layers = self.model.layers[: layer + 1]
        self.model.layers[layer].mlp.register_forward_pre_hook(lambda _, inputs: setattr(self, "seen", inputs[0]))

    @torch.no_grad()
    def __call__(self, texts):
        """Each text a list of parts that are encoded one by one, as the runner joins prompts."""
        rows = [[self.sp.bos_id()] + [i for part in parts for i in self.sp.encode(part)] for parts in texts]
        out = np.zeros((len(rows), self.model.config.hidden_size))
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for begin in range(0, len(order), 64):
            part = order[begin : begin + 64]
            ids = torch.zeros(len(part), max(len(rows[i]) for i in part), dtype=torch.long)
            for row, i in zip(ids, part):
                row[: len(rows[i])] = torch.tensor(rows[i])
            self.model(ids, use_cache=False)
            for row, i in zip(self.seen, part):
                out[i] = row[len(rows[i]) - 1]
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def texts_of(records):
    """Name -> the text of every record, as parts; the genuine pairs stand behind a neighbour's text."""
    rng = random.Random(0)
    texts = {"edit": [[r["src"]] for r in records], "paraphrases": [[r["rephrase"]] for r in records]}
    texts["genuine"] = []
    for i, r in enumerate(records):
        other = records[(i // 100 * 100 + rng.randrange(100)) % len(records)]
        texts["genuine"].append([other["src"] + " " + other["alt"].strip(), r["src"]])
    texts["near"] = [[r["loc"]] for r in records]
    for kind in records[0].get("locality", {}):
        texts[kind] = [[r["locality"][kind]["prompt"]] for r in records]
    return texts


def table(rows, subjects, n):
    """Name -> cosines with n edits stored; the share of paraphrases whose nearest edit is their own; and that share
    above the threshold that lets 2 % of near and same prompts through, which no rule can know."""
    edits = rows["edit"][:n]
    out = {name: np.sum(rows[name][:n] * edits, axis=1) for name in ("paraphrases", "genuine")}
    others = edits @ edits.T
    others[others >= 1 - 1e-5] = -1  # itself, and edits of the very same feature
    out["impostors"] = others.max(axis=1)
    others[subjects[:n, None] == subjects[None, :n]] = -1
    out["of other subjects"] = others.max(axis=1)
    for name in rows:
        if name not in ("edit", "paraphrases", "genuine"):
            out[name] = (rows[name][:n] @ edits.T).max(axis=1)
    all_edits = rows["paraphrases"][:n] @ edits.T
    own = all_edits.argmax(axis=1) == np.arange(n)
    best = np.quantile(np.concatenate([out[name] for name in ("near", "same") if name in out]), 0.98)
    return out, np.mean(own), np.mean(own & (all_edits.max(axis=1) >= best))


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    with open(sys.argv[2], encoding="utf-8") as f:
        records = [r for r in json.load(f) if r["alt"].strip() and r.get("rephrase") and r.get("loc")]
    counts = [int(n) for n in sys.argv[4:]] or [n for n in (20, 100, 300, 1000, 3000) if n <= len(records)]
    records = records[: max(counts)]
    features = Features(sys.argv[1], int(sys.argv[3]))
    rows = {name: features(texts) for name, texts in texts_of(records).items()}
    subjects = np.array([r.get("subject") or i for i, r in enumerate(records)], dtype=object)
    for n in counts:
        print("| edits | cosines | " + " | ".join(f"{100 * q:g} %" for q in QUANTILES) + " |")
        print("|---|---|" + "---|" * len(QUANTILES))
        cosines, own, kept = table(rows, subjects, n)
        for name, values in cosines.items():
            print(f"| {n:,} | {name} | " + " | ".join(f"{v:.3f}" for v in np.quantile(values, QUANTILES)) + " |")
        print(f"\n{n:,} edits: the nearest edit of a paraphrase is its own: {own:.3f}; and above the threshold that lets 2 % "
              f"of near and same prompts through: {kept:.3f}\n")


if __name__ == "__main__":
    main()
