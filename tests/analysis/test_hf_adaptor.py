"""A saved adaptor on a Hugging Face model gives the runner's answers: the same argmax at every target position but for
near-ties, which are counted, and logits within 1e-4; for every router, granularity and kind of expert."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lemoe_analysis.hf_adaptor import attach, encode

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "configs" / "quickstart" / "model"
BOUND = 1e-4  # of logits; two logits nearer than twice that are a near-tie
SMALL = ["data.edits=24", "edit.batch_size=8", "edit.method=lemoe", "lemoe.max_steps=25", "output.adaptor=fp32"]
VARIANTS = {
    "stable": ["lemoe.preset=stable"],
    "paper": ["lemoe.preset=paper"],
    "literal": ["lemoe.preset=paper", "lemoe.router=literal"],
    "frozen projection": ["lemoe.preset=paper", "lemoe.router=frozen_proj", "lemoe.frozen_after=1"],
    "a projection an expert": ["lemoe.preset=paper", "lemoe.router=per_expert_proj"],
    "fitted, normalised": ["lemoe.preset=paper", "lemoe.router=fitted", "lemoe.gate=renorm", "lemoe.normalise=true"],
    "centroid": ["lemoe.preset=paper", "lemoe.router=centroid", "lemoe.gate=renorm", "lemoe.features=last_hidden"],
    "token by token": ["lemoe.preset=paper", "lemoe.granularity=token"],
    "by subject": ["lemoe.preset=paper", "lemoe.granularity=entity"],
    "keys with a null route": ["lemoe.preset=paper", "lemoe.null=cosine", "lemoe.null_rule=mid"],
    "lora": ["lemoe.preset=stable", "lemoe.expert.kind=lora", "lemoe.expert.rank=4", "lemoe.lambda=0.5"],
}


def run_lemoe(folder: Path, settings: list[str]) -> tuple[Path, dict]:
    """(run file, {(ids, n_prompt): (first logits, last logits)}) of one small run."""
    logits = folder / "logits.bin"
    command = [os.environ["LEMOE_LOGITS_RUN"], str(ROOT / "configs" / "quickstart.yaml"), f"output.dir={folder / 'out'}"]
    done = subprocess.run([*command, "output.progress=none", *SMALL, *settings], env={**os.environ, "LEMOE_LOGITS": str(logits)},
                          capture_output=True, text=True, check=False)  # fmt: skip
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    (run,) = (folder / "out" / "runs").glob("*.h5")
    return run, read_logits(logits)


def read_logits(path: Path) -> dict:
    data, at, found = path.read_bytes(), 0, {}
    while at < len(data):
        n_tok, n_prompt, n_vocab = np.frombuffer(data, np.int64, 3, at)
        ids = tuple(np.frombuffer(data, np.int32, n_tok, at + 24).tolist())
        at += 24 + 4 * n_tok
        n = (n_tok - n_prompt) * n_vocab
        rows = np.frombuffer(data, np.float32, n, at).reshape(-1, n_vocab)
        at += 4 * n
        first, _ = found.get((ids, int(n_prompt)), (rows, rows))
        found[ids, int(n_prompt)] = (first, rows)
    return found


def target_logits(model, ids: tuple, n_prompt: int) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, n_prompt - 1 : -1].numpy()


def texts_of(run: Path, tokenizer) -> dict:
    """(ids, n_prompt) -> subject tokens, of every text that the runner scores."""
    with h5py.File(run) as file:
        records = file["/edit/record"][:]
    data = json.loads((MODEL.parent / "data.json").read_text("utf-8"))
    texts = []
    for record in (data[i] for i in records):
        about, target = record["subject"], record["alt"]
        texts += [encode(tokenizer, record["src"], target, about), encode(tokenizer, record["rephrase"], target, about)]
        texts.append(encode(tokenizer, record["loc"], record["loc_ans"]))
        texts += [encode(tokenizer, other["prompt"], other["ground_truth"]) for other in record["locality"].values()]
    return {(tuple(text.ids), text.n_prompt): text.subject for text in texts}


class Reproduces(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(1)
        cls.model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
        cls.tokenizer = AutoTokenizer.from_pretrained(MODEL)
        cls.folder = tempfile.TemporaryDirectory()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def compare(self, name: str, settings: list[str]):
        folder = Path(self.folder.name) / name.replace(" ", "_").replace(",", "")
        folder.mkdir()
        run, logits = run_lemoe(folder, settings)
        texts = texts_of(run, self.tokenizer)
        self.assertEqual(set(texts), set(logits), "the same texts in the same tokens, prompts ending at the same place")
        near, wrong, worst, edited, n = 0, 0, 0.0, 0.0, 0
        with attach(self.model, run.with_suffix("") / "adaptor.safetensors") as adaptor:
            for (ids, n_prompt), (pristine, final) in logits.items():
                with adaptor.prompts([n_prompt], [texts[ids, n_prompt]]):
                    ours = target_logits(self.model, ids, n_prompt)
                worst, edited = max(worst, np.abs(ours - final).max()), max(edited, np.abs(final - pristine).max())
                best = np.sort(final, axis=1)
                ties = best[:, -1] - best[:, -2] < 2 * BOUND
                near += int(ties.sum())
                wrong += int(((ours.argmax(axis=1) != final.argmax(axis=1)) & ~ties).sum())
                n += len(final)
        print(f"{name}: {len(logits)} texts, {n} target positions, {wrong} other answers, {near} near-ties; largest "
              f"difference of a logit {worst:.1e}, where editing moved one by {edited:.1f}")  # fmt: skip
        self.assertEqual(wrong, 0)
        self.assertLess(worst, BOUND)
        self.assertGreater(edited, 0.5, "the edit itself has to show")
        for (ids, n_prompt), (pristine, _) in logits.items():  # taken off again, the model is what it was
            self.assertLess(np.abs(target_logits(self.model, ids, n_prompt) - pristine).max(), BOUND)
        return run, logits

    def test_every_router(self):
        for name, settings in VARIANTS.items():
            with self.subTest(name):
                self.compare(name, settings)


if __name__ == "__main__":
    unittest.main()
