"""Models as people write them, from torch to the page: `tamago web`, and ONNX Runtime's answers in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import tamago
from tamago.compiler.cli import main
from tests.browser.chromium import Chromium
from tests.browser.site import Server


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def digits() -> tuple[nn.Module, torch.Tensor]:
    """A CNN that has seen the digits once, and one that it has not seen."""
    torch.manual_seed(0)
    data, target = load_digits(return_X_y=True)
    pictures, labels = torch.tensor(data, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(target)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for batch in torch.randperm(1500).split(50):
        loss = cross_entropy(model(pictures[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval(), pictures[1600:1601]


class Inverted(nn.Module):
    """Narrow to wide, each channel by itself, and back, as MobileNetV2 has it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(8, 24, 1), nn.ReLU6(), nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.ReLU6(), nn.Conv2d(24, 8, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block, and x beside it."""
        return x + self.layers(x)


def block() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(1)
    return Inverted().eval(), torch.randn(1, 8, 9, 7)


def vision_transformer() -> tuple[nn.Module, torch.Tensor]:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(2)
    config = ViTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=32, patch_size=8
    )

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit: Any = ViTModel(config)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.vit(x).last_hidden_state[:, 0]

    return Pooled().eval(), torch.randn(1, 3, 32, 32)


class Listener(nn.Module):
    """What came before and what comes after, then what came before alone."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.LSTM(12, 20, bidirectional=True, batch_first=True)
        self.one = nn.GRU(40, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The last state."""
        return self.one(self.both(x)[0])[1]


def recurrent() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(4)
    return Listener().eval(), torch.randn(2, 9, 12)


@pytest.mark.parametrize("make", [digits, block, vision_transformer, recurrent], ids=lambda make: make.__name__)
def test_a_model_answers_in_the_browser_as_in_torch(
    make: Any, chromium: Chromium, server: Server, root: Path, tmp_path: Path
) -> None:
    module, x = make()
    tamago.compile(module, (x,), target="web", store=tmp_path / "store").save(tmp_path / "model.onnx")
    folder = root / make.__name__
    assert main(["web", str(tmp_path / "model.onnx"), str(folder), "--force"]) == 0

    with chromium.page(f"{server.url}{folder.name}/") as page:
        page.run("window.m = await (await import('./tamago.js')).load('./model.json')")
        name = page.run("return m.inputs[0].name")
        script = f"return Array.from(Object.values(await m.run({{[{name!r}]: {x.flatten().tolist()}}}))[0])"
        found = np.asarray(page.run(script), np.float32)

    with torch.no_grad():
        wanted = module(x).flatten().numpy()
    assert float(np.abs(found - wanted).max()) <= 1e-4 * float(np.abs(wanted).max())


def test_a_small_download_answers_within_its_budget(
    chromium: Chromium, server: Server, root: Path, tmp_path: Path
) -> None:
    module, x = digits()
    exact = tamago.compile(module, (x,), target="web", store=tmp_path / "store")
    exact.save(tmp_path / "model.onnx")
    data, _ = load_digits(return_X_y=True)
    pictures = data[1500:1700].reshape(-1, 1, 8, 8).astype(np.float32) / 16
    name = exact.graph.graph.inputs[0].name or ""
    arrays: dict[str, Any] = {name: pictures}
    np.savez(tmp_path / "pictures.npz", **arrays)
    words = ["--rise", "0.05", "--calibration", str(tmp_path / "pictures.npz"), "--force"]
    assert main(["web", str(tmp_path / "model.onnx"), str(root / "small"), *words]) == 0
    stored = (root / "small" / "weights-0.safetensors").stat().st_size
    assert stored < 0.4 * 4 * sum(p.numel() for p in module.parameters())

    with chromium.page(f"{server.url}small/") as page:
        page.run("window.m = await (await import('./tamago.js')).load('./model.json')")
        script = f"return Array.from(Object.values(await m.run({{[{name!r}]: {x.flatten().tolist()}}}))[0])"
        found, again = (np.asarray(page.run(script)) for _ in range(2))
        assert page.complaints == []

    with torch.no_grad():
        wanted = module(x).flatten().numpy()
    assert 0 < float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted)) < 0.1
    np.testing.assert_array_equal(found, again)


def test_a_language_model_writes_in_the_browser_what_transformers_writes(
    chromium: Chromium, server: Server, root: Path, tmp_path: Path
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=61,
        max_position_embeddings=32,
    )
    model: Any = LlamaForCausalLM(config).eval()
    compiled = tamago.compile_causal_lm(
        model, max_length=24, prompt_lengths=[4], target="web", store=tmp_path / "store"
    )
    compiled.step.save(tmp_path / "step.onnx")
    folder = root / "writer"
    assert main(["web", str(tmp_path / "step.onnx"), str(folder), "--force"]) == 0
    prompt = [3, 14, 15]

    with chromium.page(f"{server.url}{folder.name}/") as page:
        page.run("window.m = await (await import('./tamago.js')).load('./model.json')")
        script = f"""
            const text = {prompt};
            for (let i = 0; i < {len(prompt) + 9}; i++) {{
                const {{logits}} = await m.run({{input_ids: [text[i]], position: [i]}}, {{outputs: ["logits"]}});
                if (i + 1 === text.length) text.push(logits.indexOf(Math.max(...logits)));
            }}
            return text;"""
        found = page.run(script)

    wanted = model.generate(torch.tensor([prompt]), max_new_tokens=10, do_sample=False, pad_token_id=0)
    assert found == wanted[0].tolist()
