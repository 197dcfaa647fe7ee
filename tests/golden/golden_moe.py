"""The conventional MoE adaptor in PyTorch, the baseline that forgets; used only to make fixtures.

h = FFN(x) + lambda * sum over a token's top_k experts of p_e f_e(x), p = softmax(W_g x), not renormalised. The
auxiliary loss is that of Switch Transformers (Fedus et al. 2022, eq. 4) over all tokens of the batch: balance *
n_expert * sum_e f_e P_e, f_e the share of routes that go to e, a constant to the gradient, P_e the mean of p_e.
"""
import torch
from torch import nn

from golden_lemoe import Expert, batch_loss


class MoeBypass(nn.Module):
    def __init__(self, host, experts, router, scale, top_k):
        super().__init__()
        self.host, self.scale, self.top_k = host, scale, top_k
        self.experts = nn.ModuleList(Expert(matrices, host) for matrices in experts)
        self.router = nn.Parameter(router.clone())
        self.seen = []

    def forward(self, x):
        p = torch.softmax(x @ self.router.T, dim=-1)
        used = torch.zeros_like(p).scatter(-1, p.topk(self.top_k, dim=-1).indices, 1.0)
        self.seen.append((p.flatten(0, -2), used.flatten(0, -2)))
        outputs = [(p * used)[..., e : e + 1] * expert(x) for e, expert in enumerate(self.experts)]
        return self.host(x) + self.scale * sum(outputs)

    def trainable(self):
        named = {f"expert{e}.{name}": w for e, expert in enumerate(self.experts) for name, w in expert.w.items()}
        return {**named, "router": self.router}

    def balance(self):
        """sum_e f_e P_e * n_expert over the tokens seen since the last call, and the narrowest decision among them."""
        p, used = (torch.cat(part) for part in zip(*self.seen))
        self.seen = []
        best = p.detach().topk(self.top_k + 1, dim=-1).values
        share = used.sum(0) / used.sum()
        return len(self.experts) * (share * p.mean(0)).sum(), (best[:, -2] - best[:, -1]).min().item()


def train(model, layer, bypass, batch, settings):
    """Edits one batch, then puts the model back: NLL and gradient norm of every step, and all weights afterwards."""
    model.model.layers[layer].mlp = bypass
    optimiser = torch.optim.AdamW(list(bypass.trainable().values()), lr=settings["lr"],
                                  weight_decay=settings["weight_decay"], foreach=False)
    records = []
    for _ in range(settings["steps"]):
        optimiser.zero_grad()
        loss = batch_loss(model, batch)
        balance, margin = bypass.balance()
        assert margin > 1e-4, "a token's route is a near-tie: rounding may decide it"
        (loss + settings["balance"] * balance).backward()
        norm = torch.nn.utils.clip_grad_norm_(bypass.trainable().values(), float("inf"))
        optimiser.step()
        records.append((loss.item(), norm.item()))
    model.model.layers[layer].mlp = bypass.host
    return records, {name: w.detach().clone() for name, w in bypass.trainable().items()}
