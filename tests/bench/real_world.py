#!/usr/bin/env python3
"""real_world.py DATA_FOLDER OUT: a small real model and real edits for the threshold of the null route.

DATA_FOLDER is the shared data folder (its INDEX.md says what is in it). Writes OUT/stories260K (the checkpoint of
llama2.c as a Hugging Face folder), OUT/zsre.json (ZsRE's train side with MEND's counterfactual targets) and
OUT/counterfact.json (CounterFact), both as ZsRE records. Needs numpy and safetensors.
"""
import json
import os
import shutil
import struct
import sys

import numpy as np
from safetensors.numpy import save_file

PART_OF = {  # llama2.c's arrays in file order, each for all layers in turn -> Hugging Face's name within a layer
    "attention_norm": "input_layernorm", "wq": "self_attn.q_proj", "wk": "self_attn.k_proj", "wv": "self_attn.v_proj",
    "wo": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "w1": "mlp.gate_proj", "w2": "mlp.down_proj",
    "w3": "mlp.up_proj",
}


def halves(weight, n_heads):
    """llama2.c rotates neighbouring pairs, Hugging Face halves: rows of each head are reordered."""
    rows, columns = weight.shape
    return weight.reshape(n_heads, rows // n_heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def convert(checkpoint, tokenizer, out):
    with open(checkpoint, "rb") as f:
        dim, hidden, layers, heads, kv_heads, vocab, length = struct.unpack("<7i", f.read(28))
        values = np.frombuffer(f.read(), dtype="<f4")
    kv = dim // heads * kv_heads
    shapes = {"attention_norm": (dim,), "wq": (dim, dim), "wk": (kv, dim), "wv": (kv, dim), "wo": (dim, dim),
              "ffn_norm": (dim,), "w1": (hidden, dim), "w2": (dim, hidden), "w3": (hidden, dim)}
    at = 0

    def take(*shape):
        nonlocal at
        at += int(np.prod(shape))
        return values[at - int(np.prod(shape)) : at].reshape(shape)

    tensors = {"model.embed_tokens.weight": take(vocab, dim)}
    for name, shape in shapes.items():
        for layer in range(layers):
            weight = take(*shape)
            if name in ("wq", "wk"):
                weight = halves(weight, heads if name == "wq" else kv_heads)
            tensors[f"model.layers.{layer}.{PART_OF[name]}.weight"] = np.ascontiguousarray(weight)
    tensors["model.norm.weight"] = take(dim)
    os.makedirs(out, exist_ok=True)
    save_file(tensors, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    shutil.copyfile(tokenizer, os.path.join(out, "tokenizer.model"))
    write(os.path.join(out, "config.json"), {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocab, "hidden_size": dim,
        "intermediate_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": dim // heads, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "max_position_embeddings": length, "rope_theta": 10000.0, "tie_word_embeddings": True, "attention_bias": False,
        "mlp_bias": False, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"})


def write(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False)


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return json.load(f)


def zsre(folder):
    with open(os.path.join(folder, "zsre_mend_train_en_10000.txt"), encoding="utf-8") as f:
        targets = [line.rstrip("\n").split("\t")[1] for line in f]
    records = read(folder, "mzsre_zsre_mend_train_10000.json")
    return [{"subject": r["subject"], "src": r["src"], "rephrase": r["rephrase"], "alt": target,
             "loc": r["loc"].rstrip("?"), "loc_ans": r["loc_ans"]}
            for r, target in zip(records, targets) if target.strip()]


def counterfact(folder):
    return [{"subject": r["subject"], "src": r["prompt"], "rephrase": r["rephrase_prompt"], "alt": r["target_new"],
             "loc": r["locality_prompt"], "loc_ans": r["locality_ground_truth"]}
            for r in read(folder, "locft_counterfact_3k.json")]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    data, out = sys.argv[1:]
    checkpoint = os.path.join(data, "ckpt", "stories260K")
    convert(os.path.join(checkpoint, "stories260K.bin"), os.path.join(checkpoint, "tok512.model"),
            os.path.join(out, "stories260K"))
    write(os.path.join(out, "zsre.json"), zsre(os.path.join(data, "zsre")))
    write(os.path.join(out, "counterfact.json"), counterfact(os.path.join(data, "counterfact")))


if __name__ == "__main__":
    main()
