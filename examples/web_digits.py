"""A classifier of digits in a visitor's browser: trained here in seconds, compiled, written as static files.

python examples/web_digits.py site/
python3 -m http.server -d site/        # then open http://localhost:8000 and give it a picture of a digit
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import tamago
from tamago.compiler.cli import main as tamago_command


class Grey(nn.Module):
    """A CNN on one channel that takes the three of a picture; white on black or black on white, dark is ink."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Logits of (N, 3, 8, 8) pixels between 0 and 1."""
        return self.layers(1 - picture.mean(1, keepdim=True))


def train() -> nn.Module:
    """Half a minute at most: 1,797 digits of 8 by 8, seen ten times."""
    torch.manual_seed(0)
    data, target = load_digits(return_X_y=True)
    digits, labels = torch.tensor(data, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(target)
    layers = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10),
    )  # fmt: skip
    optimiser = torch.optim.AdamW(layers.parameters(), lr=2e-3)
    for batch in [b for _ in range(10) for b in torch.randperm(1500).split(50)]:
        loss = cross_entropy(layers(digits[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    right = layers.eval()(digits[1500:]).argmax(1) == labels[1500:]
    print(f"{right.float().mean():.1%} of the digits that it has not seen")
    return Grey(layers).eval()


def main(folder: str) -> int:
    """Train, compile, write."""
    with tempfile.TemporaryDirectory() as name:
        file, labels = Path(name) / "digits.onnx", Path(name) / "labels.txt"
        tamago.compile(train(), (torch.rand(1, 3, 8, 8),), target="web").save(file)
        labels.write_text("\n".join("0123456789"))
        return tamago_command(["web", str(file), folder, "--app", "classifier", "--labels", str(labels), "--force"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "site"))
