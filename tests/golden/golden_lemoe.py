"""A small LEMoE in PyTorch, written from the method's description alone and used only to make fixtures.

One transformer block's FFN gets a bypass, h = FFN(x) + lambda * g * f_i(x), with one expert f_i and one weight g for
all tokens of a sequence. The router: v = W_up silu(W_down e), z_i = k_i . v, p = softmax(z) over the experts present,
e = mean embedding of the prompt without BOS. In training the newest expert is forced and g is its probability; at
inference the largest p decides. Sequences run one at a time, so there is neither padding nor a mask of our own.
"""
import torch
from torch import nn
from torch.nn.functional import cross_entropy, silu

FFN_MATRICES = ("gate", "up", "down")
LORA_MATRICES = ("gate_a", "gate_b", "up_a", "up_b", "down_a", "down_b")


def ffn(x, gate, up, down):
    return (silu(x @ gate.T) * (x @ up.T)) @ down.T


class Expert(nn.Module):
    """A gated FFN, or with six matrices LoRA on the host's three: f(x) = FFN_{W + B A}(x) - FFN_W(x)."""

    def __init__(self, matrices, host):
        super().__init__()
        self.w = nn.ParameterDict({name: nn.Parameter(value.clone()) for name, value in matrices.items()})
        self.host = [host.gate_proj.weight, host.up_proj.weight, host.down_proj.weight]

    def forward(self, x):
        if set(self.w) == set(FFN_MATRICES):
            return ffn(x, *(self.w[name] for name in FFN_MATRICES))
        adapted = [w + self.w[name + "_b"] @ self.w[name + "_a"] for name, w in zip(FFN_MATRICES, self.host)]
        return ffn(x, *adapted) - ffn(x, *self.host)


class Bypass(nn.Module):
    """Stands where the host FFN stood. expert None: the host alone."""

    def __init__(self, host):
        super().__init__()
        self.host, self.expert, self.weight = host, None, None

    def forward(self, x):
        y = self.host(x)
        return y if self.expert is None else y + self.weight * self.expert(x)


class Lemoe:
    def __init__(self, model, layer, scale, projection):
        """scale: lambda; projection: w_down [key_dim, d_model] and w_up [d_model, key_dim]."""
        self.model, self.scale = model, scale
        self.bypass = Bypass(model.model.layers[layer].mlp)
        model.model.layers[layer].mlp = self.bypass
        self.layer = layer
        self.w_down, self.w_up = (nn.Parameter(projection[name].clone()) for name in ("w_down", "w_up"))
        self.experts, self.keys = [], []

    def close(self):
        self.model.model.layers[self.layer].mlp = self.bypass.host

    def insert(self, matrices, key):
        """A new expert and key; the older ones are frozen."""
        for old in [*self.keys, *(w for expert in self.experts for w in expert.parameters())]:
            old.requires_grad_(False)
        self.experts.append(Expert(matrices, self.bypass.host))
        self.keys.append(nn.Parameter(key.clone()))

    def trainable(self):
        named = dict(self.experts[-1].w)
        return {**named, "key": self.keys[-1], "w_down": self.w_down, "w_up": self.w_up}

    def probabilities(self, sequence):
        e = mean_embedding(self.model, sequence)
        v = self.w_up @ silu(self.w_down @ e)
        return torch.softmax(torch.stack(list(self.keys)) @ v, dim=0)

    def send(self, sequence, index):
        """Sends a sequence to an expert with its raw probability as weight."""
        self.bypass.expert = self.experts[index]
        self.bypass.weight = self.scale * self.probabilities(sequence)[index]

    def train(self, batch, settings):
        """Forced on the newest expert; returns the loss and the gradient norm before clipping of every step."""
        parameters = list(self.trainable().values())
        optimiser = torch.optim.AdamW(parameters, lr=settings["lr"], betas=(0.9, 0.999), eps=1e-8,
                                      weight_decay=settings["weight_decay"], foreach=False)
        records = []
        for _ in range(settings["steps"]):
            optimiser.zero_grad()
            loss = self.forced_loss(batch)
            loss.backward()
            limit = settings["clip"] or float("inf")
            norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
            optimiser.step()
            records.append((loss.item(), norm.item()))
        return records

    def forced_loss(self, batch):
        return batch_loss(self.model, batch, before=lambda sequence: self.send(sequence, -1))

    @torch.no_grad()
    def route(self, sequence):
        """Where inference sends a sequence: expert, weight, distance of the two best scores."""
        p = self.probabilities(sequence)
        best = torch.topk(p, min(2, len(p)))
        margin = (best.values[0].log() - best.values[-1].log()).item()
        return best.indices[0].item(), best.values[0].item(), margin


def mean_embedding(model, sequence):
    """Over the prompt without BOS and without target, which would leak the answer into the route."""
    ids, n_prompt = sequence
    return model.get_input_embeddings()(ids[1:n_prompt]).detach().mean(dim=0)


def target_logits(model, sequence, embeddings=None):
    """Rows that predict a target: the positions before the targets."""
    ids, n_prompt = sequence
    given = {"input_ids": ids[None]} if embeddings is None else {"inputs_embeds": embeddings[None]}
    return model(**given, use_cache=False).logits[0, n_prompt - 1 : -1]


def target_nll(model, sequence, embeddings=None):
    ids, n_prompt = sequence
    return cross_entropy(target_logits(model, sequence, embeddings), ids[n_prompt:], reduction="none")


def batch_loss(model, batch, before=lambda sequence: None, embeddings=None):
    """Mean over edits of the mean NLL of an edit's target tokens. before(sequence) is called ahead of each forward."""
    losses = []
    for i, sequence in enumerate(batch):
        before(sequence)
        losses.append(target_nll(model, sequence, embeddings[i] if embeddings else None).mean())
    return torch.stack(losses).mean()
