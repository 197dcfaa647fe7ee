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
from lemoe_analysis.hf_adaptor import AdaptorError, attach, encode
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

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
    "keys with a null key": ["lemoe.preset=paper", "lemoe.null=key", "lemoe.router_ce=1"],
    "lora": ["lemoe.preset=stable", "lemoe.expert.kind=lora", "lemoe.expert.rank=4", "lemoe.lambda=0.5"],
}


def run_lemoe(folder: Path, settings: list[str]) -> tuple[Path, dict]:
    """(run file, {(ids, n_prompt): (first logits, last logits)}) of one small run."""
    logits = folder / "logits.bin"
    command = [
        os.environ["LEMOE_LOGITS_RUN"],
        str(ROOT / "configs" / "quickstart.yaml"),
        f"output.dir={folder / 'out'}",
    ]
    command += ["output.progress=none", *SMALL, *settings]
    environment = {**os.environ, "LEMOE_LOGITS": str(logits)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
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


class Uses(unittest.TestCase):
    """One edited model, used as people use one."""

    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(1)
        cls.model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
        cls.tokenizer = AutoTokenizer.from_pretrained(MODEL)
        cls.storage = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.storage.name)
        cls.results, _ = run_lemoe(cls.folder, VARIANTS["stable"])
        cls.file = cls.results.with_suffix("") / "adaptor.safetensors"
        with h5py.File(cls.results) as file:
            cls.prompts, cls.targets = (list(file[f"/edit/{name}"].asstr()[:]) for name in ("prompt", "target"))
            cls.experts = file["/routing/final_expert"][:].tolist()
            cls.reliability = file["/eval/final/reliability_all"][:]

    @classmethod
    def tearDownClass(cls):
        cls.storage.cleanup()

    def generate(self, texts: list[str], **options) -> list[str]:
        """Greedy, a batch at once, padded on the left."""
        self.tokenizer.padding_side, self.tokenizer.pad_token = "left", self.tokenizer.eos_token
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
        with torch.no_grad():
            out = self.model.generate(**inputs, max_new_tokens=12, do_sample=False, pad_token_id=2, **options)
        return [self.tokenizer.decode(row[inputs["input_ids"].shape[1] :], skip_special_tokens=True) for row in out]

    def test_generation_gives_the_targets_and_the_runners_routes(self):
        """What the runner predicts wholly right with the target before its eyes, greedy decoding finds by itself."""
        before = self.generate(self.prompts)
        with attach(self.model, self.file) as adaptor:
            after = self.generate(self.prompts)
            self.assertEqual(adaptor.routes[0].tolist(), self.experts, "one route a sequence, decided at prefill")
            alone = [self.generate([prompt])[0] for prompt in self.prompts[:3]]
        self.assertEqual(after[:3], alone, "padding changes nothing")
        right = [a.strip().startswith(t) for a, t in zip(after, self.targets)]
        self.assertEqual(right, (self.reliability == 1).tolist())
        self.assertEqual(self.generate(self.prompts), before, "taken off, the model is what it was")
        self.assertGreater(np.mean(right), 0.5)
        self.assertLess(np.mean([b.strip().startswith(t) for b, t in zip(before, self.targets)]), 0.2)

    def test_without_a_cache_the_prompts_are_named(self):
        """Each pass is over all there is so far; where the prompt ends has to be said."""
        lengths = [len(encode(self.tokenizer, prompt).ids) for prompt in self.prompts[:4]]
        with attach(self.model, self.file) as adaptor:
            wanted = self.generate(self.prompts[:4])
            with adaptor.prompts(lengths):
                self.assertEqual(self.generate(self.prompts[:4], use_cache=False), wanted)

    def test_forced_experts(self):
        """What router oracle needs; and an expert of another batch does not know the answer."""
        ids = torch.tensor([encode(self.tokenizer, self.prompts[0]).ids])
        with attach(self.model, self.file) as adaptor, torch.no_grad():
            routed = self.model(ids).logits
            with adaptor.force([self.experts[0]]):
                self.assertLess((self.model(ids).logits - routed).abs().max(), BOUND)
            with adaptor.force([-1]):
                nowhere = self.model(ids).logits
            with adaptor.force([(self.experts[0] + 1) % 3]):
                self.assertGreater((self.model(ids).logits - routed).abs().max(), 0.1)
        with torch.no_grad():
            self.assertTrue(torch.equal(self.model(ids).logits, nowhere))

    def test_oracle_has_to_be_told(self):
        file = self.edited(lambda tensors, settings: settings.update(router="oracle"))
        with attach(self.model, file) as adaptor:
            with self.assertRaisesRegex(AdaptorError, "adaptor.force"):
                self.model(torch.tensor([[1, 5, 9]]))
            with adaptor.force([0]):
                self.model(torch.tensor([[1, 5, 9]]))

    def edited(self, change) -> Path:
        """A copy of the adaptor with changed tensors or settings."""
        with safe_open(self.file, framework="pt") as file:
            settings, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}
        change(tensors, settings)
        path = self.folder / f"edited{len(list(self.folder.glob('edited*')))}.safetensors"
        save_file(tensors, path, metadata=settings)
        return path

    def test_what_cannot_be_attached_is_refused_in_a_sentence(self):
        torn = self.folder / "torn.safetensors"
        torn.write_bytes(self.file.read_bytes()[:1000])
        wide = {f"expert.0.{name}.weight": torch.zeros(8, 8) for name in ("gate", "up", "down")}
        for said, file in (
            ("not a readable safetensors file", torn),
            ("not a readable safetensors file", self.folder / "nowhere"),
            ("method is 'ft_m'", self.edited(lambda t, s: s.update(method="ft_m"))),
            ("metadata lacks router", self.edited(lambda t, s: s.pop("router"))),
            ("layer 99, and the model has 8", self.edited(lambda t, s: s.update(layer="99"))),
            ("holds no expert", self.edited(lambda t, s: [t.pop(n) for n in list(t) if n.startswith("expert")])),
            ("has no anchors", self.edited(lambda t, s: [t.pop(n) for n in list(t) if n.startswith("anchors")])),
            ("has no tensor expert.0.up.weight", self.edited(lambda t, s: t.pop("expert.0.up.weight"))),
            ("made for a model of width 8", self.edited(lambda t, s: t.update(wide))),
            ("router 'psychic' is unknown", self.edited(lambda t, s: s.update(router="psychic"))),
        ):
            with self.subTest(said), self.assertRaisesRegex(AdaptorError, said):
                attach(self.model, file)

    def test_prompts_that_do_not_fit(self):
        with attach(self.model, self.file) as adaptor, adaptor.prompts([9]):
            with self.assertRaisesRegex(AdaptorError, "do not fit"):
                self.model(torch.tensor([[1, 5, 9]]))

    def test_example_asks_before_and_after(self):
        command = [sys.executable, str(ROOT / "analysis" / "examples" / "ask_edited.py"), str(MODEL), str(self.file)]
        asked = [*command, "--results", str(self.results), "--edits", "2"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("before: "), 2)
        self.assertIn(f"{self.prompts[0]}\n", done.stdout)
        self.assertIn(f"routed to expert {self.experts[0] + 1}; target: {self.targets[0]}", done.stdout)
        broken = subprocess.run([*command[:3], "nowhere", "Who?"], capture_output=True, text=True, check=False)
        self.assertEqual(broken.returncode, 1)
        self.assertIn("error: nowhere: not a readable safetensors file", broken.stderr)
        self.assertNotIn("Traceback", broken.stderr)


if __name__ == "__main__":
    unittest.main()
