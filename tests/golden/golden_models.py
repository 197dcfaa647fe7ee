"""The random tiny models of the fixtures, their inputs, and how tensors reach a file."""
import json
import platform
import shutil
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import transformers

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "vocab_size": 96,
         "num_attention_heads": 4, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2}

# What is special about each: among others, whether the edited FFN is the first, a middle or the last one.
FIXTURES = {
    "llama_grouped": {
        "seed": 11, "family": transformers.LlamaConfig, "layer": 1, "scale": 1.0,
        "config": {"num_key_value_heads": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": False},
    },
    "llama_tied": {
        "seed": 12, "family": transformers.LlamaConfig, "layer": 2, "scale": 1.0,
        "config": {"num_key_value_heads": 4, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
                   "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    },
    "mistral_window": {
        "seed": 13, "family": transformers.MistralConfig, "layer": 0, "scale": 0.75,
        "config": {"num_key_value_heads": 1, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "head_dim": 6,
                   "sliding_window": 6, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    },
}


class Source:
    """Seeded normal numbers."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape, std):
        return torch.randn(*shape, generator=self.generator) * std

    def integer(self, low, high):
        return torch.randint(low, high, (), generator=self.generator).item()

    def ids(self, n):
        return torch.randint(3, SIZES["vocab_size"], (n,), generator=self.generator)


def random_model(fixture, source):
    """Weights large enough that attention is uneven and every term of the computation shows in the results."""
    config = fixture["family"](**{**SIZES, **fixture["config"]}, dtype="float32")
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, w in model.named_parameters():
            if w.dim() == 1:
                w.copy_(1.0 + source.normal(*w.shape, std=0.2))
            else:
                w.copy_(source.normal(*w.shape, std=0.5 if "embed" in name else 1.5 / w.shape[1] ** 0.5))
    return model.requires_grad_(False)


def random_batch(source, n=4):
    """Sequences (ids, n_prompt): BOS, a prompt of 8 to 16 tokens, a target of 1 to 4."""
    batch = []
    for _ in range(n):
        n_prompt, n_target = 1 + source.integer(8, 17), source.integer(1, 5)
        batch.append((torch.cat([torch.tensor([1]), source.ids(n_prompt - 1 + n_target)]), n_prompt))
    return batch


def batch_tensors(batch):
    """Ids end to end, and (n_tok, n_prompt) of each sequence; small integers, exact in fp32."""
    return {"ids": torch.cat([ids for ids, _ in batch]).float(),
            "spans": torch.tensor([[len(ids), n_prompt] for ids, n_prompt in batch]).float()}


def versions(seed):
    return json.dumps({"python": platform.python_version(), "torch": torch.__version__,
                       "transformers": transformers.__version__, "safetensors": safetensors.__version__, "seed": seed})


transformers.utils.logging.disable_progress_bar()


def save(folder, model, expected, seed):
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tensors = {name: value.detach().float().contiguous() for name, value in expected.items()}
    safetensors.torch.save_file(tensors, folder / "expected.safetensors", metadata={"versions": versions(seed)})
