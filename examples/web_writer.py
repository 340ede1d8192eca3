"""A language model that completes Python in a visitor's browser, its cache on the visitor's GPU.

python examples/web_writer.py site/    # trains a minute on the standard library, byte by byte
python3 -m http.server -d site/        # then open http://localhost:8000 and begin a function
"""

from __future__ import annotations

import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import tamago
from tamago.compiler.cli import main as tamago_command

CONTEXT = 256  # bytes that a text may have
SEEN = 128  # bytes of a training sample


def train(steps: int) -> Any:
    """A Llama of 0.9 M parameters, on pieces of the standard library."""
    torch.manual_seed(0)
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    text = torch.frombuffer(bytearray(b"".join(f.read_bytes() for f in files)), dtype=torch.uint8).long()
    config = LlamaConfig(
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=256,
        max_position_embeddings=CONTEXT,
    )
    model: Any = LlamaForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(steps):
        starts = torch.randint(len(text) - SEEN, (16,)).tolist()
        batch = torch.stack([text[i : i + SEEN] for i in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 0:
            print(f"step {step}: {loss.item():.2f} nats a byte", flush=True)
    return model.eval()


def main(folder: str, steps: int = 600) -> int:
    """Train, compile the step that continues a text by one byte, write."""
    model = train(steps)
    writer = tamago.compile_causal_lm(model, max_length=CONTEXT, prompt_lengths=[16], target="web")
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "writer.onnx"
        writer.step.save(file)
        return tamago_command(["web", str(file), folder, "--app", "completion", "--force"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "site"))
