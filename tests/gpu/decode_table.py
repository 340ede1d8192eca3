"""Decoding on a GPU beside torch.compile: `python -m tests.gpu.decode_table --json out.json`.

A Llama of a given shape with seeded random weights (speed does not depend on them), one text, the cache at 512 tokens
of context. All take turns in one process, timed by the device's own clock; the limit is the bytes that a step must read
over the copy bandwidth measured in the same run. Errors are of the logits, against the same weights in float32.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import tamago
from tamago.backends.triton.timing import interleave_graphs
from tests.gpu.torch_step import TorchStep

SHAPES: dict[str, dict[str, int]] = {
    "llama-1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
    },
    "tiny": {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 1000,
    },
}
CONTEXT = 512
COPIED = 1 << 31  # bytes


def main() -> None:
    """Compile, check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="llama-1b", choices=sorted(SHAPES))
    parser.add_argument("--slots", type=int, default=1024)
    parser.add_argument("--modes", default="reduce-overhead", help="of torch.compile, comma separated")
    parser.add_argument("--store", help="where tuning records are kept")
    parser.add_argument("--bits", type=int, choices=(4, 8), help="a further row: all weights in so many bits")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    modes = [m for m in options.modes.split(",") if m]
    found = measure(options.shape, options.slots, modes, options.store, options.bits)
    print(json.dumps(found, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def measure(shape: str, slots: int, modes: Sequence[str], store: str | None, bits: int | None = None) -> dict[str, Any]:
    """One shape: milliseconds of a step for each, the limit, errors, tokens a second, seconds to compile."""
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=4096, tie_word_embeddings=False)  # pyright: ignore[reportArgumentType]
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config)
    model = model.to(torch.bfloat16).eval()
    start = time.perf_counter()
    words: dict[str, Any] = {"max_length": slots, "prompt_lengths": (32,), "target": "cuda", "store": store}
    compiled = tamago.compile_causal_lm(model, **words)
    cold = time.perf_counter() - start
    ours = {"tamago": compiled}
    if bits is not None:
        ours[f"tamago, all weights {bits} bit"] = tamago.compile_causal_lm(model, weight_bits=bits, **words)
    bandwidth = copy_bandwidth()
    model = model.cuda()
    ids = torch.randint(0, config.vocab_size, (1, CONTEXT), generator=torch.Generator().manual_seed(1)).cuda()
    bytes_read = sum(p.nbytes for n, p in model.named_parameters() if "embed_tokens" not in n)
    sizes = SHAPES[shape]
    bytes_read += CONTEXT * 4 * sizes["num_hidden_layers"] * sizes["num_key_value_heads"] * sizes["head_dim"]  # K and V
    runs, outputs = _runs(model, ours, ids, slots, modes)
    timings = interleave_graphs(list(runs.values()), rounds=25, seconds=20.0)
    exact = model.float()
    with torch.no_grad():
        wanted = exact(ids).logits[:, -1].double()
    return {
        "shape": shape,
        "device": torch.cuda.get_device_name(),
        "versions": {p: version(p) for p in ("torch", "triton", "transformers")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "copy_TB_s": bandwidth / 1e12,
        "limit_ms": bytes_read / bandwidth * 1e3,
        "step_ms": {name: t.median for name, t in zip(runs, timings, strict=True)},
        "spread_ms": {name: t.spread for name, t in zip(runs, timings, strict=True)},
        "relative_error": {n: float((o.double() - wanted).norm() / wanted.norm()) for n, o in outputs.items()},
        "generate_tokens_s": {n: c.measure(new_tokens=64).tokens_per_second for n, c in ours.items()},
        "compile_s": cold,
        "notes": {n: c.step.report.notes for n, c in ours.items()},
    }


def _runs(
    model: Any, ours: Mapping[str, tamago.CausalLanguageModel], ids: Tensor, slots: int, modes: Sequence[str]
) -> tuple[dict[str, Callable[[], object]], dict[str, Tensor]]:
    """A step at the end of the context by everybody, and the logits that each gives there."""
    last = torch.tensor([CONTEXT - 1], device="cuda")
    runs: dict[str, Callable[[], object]] = {}
    outputs: dict[str, Tensor] = {}
    plain = TorchStep(model, slots)
    with torch.no_grad():
        for position in range(CONTEXT):
            outputs["torch eager"] = plain(ids[:, position : position + 1], torch.tensor([position], device="cuda"))
    caches = [b for n, b in plain.named_buffers(recurse=False) if n.startswith(("keys", "values"))]
    for mode in modes:
        step = torch.compile(plain, mode=mode, fullgraph=True)

        def run(step: Any = step) -> object:
            with torch.no_grad():
                return step(ids[:, -1:], last)

        found: Any = [run() for _ in range(3)][-1]
        outputs[f"torch.compile {mode}"] = found.clone()
        runs[f"torch.compile {mode}"] = run
    for name, compiled in ours.items():
        program: Any = compiled.step.program
        feeds = dict(zip([n for n in program.inputs if n.startswith("past")], caches, strict=True))
        tensors = program.tensors({**feeds, "input_ids": ids[:, -1:], "position": last})
        outputs[name] = program.run(tensors)[0]
        runs[name] = program.replayable(tensors).replay
    return runs, outputs


def copy_bandwidth() -> float:
    """Bytes read and written a second by a large copy."""
    a = torch.empty(COPIED, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    (timing,) = interleave_graphs([lambda: b.copy_(a)], rounds=15, seconds=3.0)
    return 2 * COPIED / (timing.median / 1e3)


if __name__ == "__main__":
    main()
