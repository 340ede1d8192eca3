"""The main job on a real model: a small transformer trained on scikit-learn's digits, compiled exactly and in a budget.

Run by `make demo`; needs no network and no files.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import tamago


class Block(nn.Module):
    """Pre-norm attention and MLP, as language models have them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (batch, tokens, width), attended to and transformed."""
        batch, tokens, width = x.shape
        q, k, v = (
            t.view(batch, tokens, self.heads, -1).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        attended = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.out(attended)
        return x + self.mlp(self.norm2(x))


class Digits(nn.Module):
    """8×8 pictures as 16 patches, four blocks, ten classes."""

    def __init__(self, width: int = 64, layers: int = 4) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 2, stride=2)
        self.position = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(layers))
        self.norm, self.head = nn.RMSNorm(width, eps=1e-6), nn.Linear(width, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        """A score for each of the ten digits."""
        x = self.embed(pictures).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(dim=1))


def train() -> tuple[nn.Module, Tensor, Tensor]:
    """The trained model, and pictures (600, 1, 8, 8) and labels it has not seen."""
    torch.manual_seed(0)
    data, target = load_digits(return_X_y=True)
    pictures = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(target)
    order = torch.randperm(len(labels))
    seen, held = order[600:], order[:600]
    model = Digits()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(20):
        for batch in seen[torch.randperm(len(seen))].split(64):
            loss = nn.functional.cross_entropy(model(pictures[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval(), pictures[held], labels[held]


def main() -> None:
    """Train, compile, show the tables and that the predictions are the same."""
    model, pictures, labels = train()
    calibration = [((p[None],), label[None]) for p, label in zip(pictures[200:], labels[200:], strict=True)]
    pictures, labels = pictures[:200], labels[:200]
    fast = tamago.compile(model, (pictures[:1],), threads=1)
    print(fast.report)
    budget = tamago.Budget(loss="kl", rise=0.005)  # nats from the original's own outputs
    small = tamago.compile(model, (pictures[:1],), threads=1, budget=budget, calibration=calibration, objective="size")
    print(small.report)
    with torch.no_grad():
        before = torch.cat([model(p[None]) for p in pictures]).argmax(1)
        exact, less = (torch.cat([m(p[None]) for p in pictures]).argmax(1) for m in (fast, small))
    accuracy = [f"{(found == labels).float().mean():.4f}" for found in (before, exact, less)]
    print(f"accuracy on pictures nobody chose on: {accuracy[0]}, exact {accuracy[1]}, within the budget {accuracy[2]}")


if __name__ == "__main__":
    main()
