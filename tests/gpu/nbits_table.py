"""Products with weights in few bits on a GPU: `python -m tests.gpu.nbits_table --json out.json`.

Each shape with every candidate, weights read from memory each time; the best one's bytes a second beside the copy
bandwidth measured in the same run, and its time beside that of the same product with weights in bfloat16 (one row).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tamago.backends.triton.jobs import GemvJob, GemvNBitsJob, Job
from tamago.backends.triton.tune_child import TOLERANCE, measure
from tests.gpu.decode_table import copy_bandwidth

SHAPES = ((8192, 8192), (4096, 4096), (2048, 2048), (16384, 2048), (2048, 8192), (128256, 2048), (4096, 14336))  # N, K
FORMATS = ((4, 32), (4, 128), (8, 128))  # bits, weights of a block
ROWS = (1, 16)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="how many of them")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bandwidth = copy_bandwidth()
    print(f"{torch.cuda.get_device_name()}: a copy moves {bandwidth / 1e12:.2f} TB/s")
    rows = [row for n, k in SHAPES[: options.shapes] for row in _rows(n, k, bandwidth)]
    if options.json is not None:
        options.json.write_text(json.dumps({"copy_TB_s": bandwidth / 1e12, "rows": rows}, indent=1) + "\n")


def _rows(n: int, k: int, bandwidth: float) -> list[dict[str, Any]]:
    plain = GemvJob(n, k, "bfloat16", gated=False, normed=False, residual=True, activation="")
    wide, candidate = _best(plain)
    found = [_said(n, k, 1, 16, 0, wide, 2.0 * n * k, bandwidth, wide, candidate)]
    for rows in ROWS:
        for bits, block in FORMATS:
            job = GemvNBitsJob(n, k, rows, bits, block, bits == 4, "bfloat16", False, False, True, "")
            milliseconds, candidate = _best(job)
            blocks = n * -(-k // block)
            size = n * k * bits / 8 + blocks * 2 + (blocks / 2 if bits == 4 else 0)
            found.append(_said(n, k, rows, bits, block, milliseconds, size, bandwidth, wide, candidate))
    return found


def _best(job: Job) -> tuple[float, Sequence[int]]:
    """The fastest right candidate's milliseconds, and which it is."""
    subject = job.subject()
    wanted = subject.wanted
    measured: list[tuple[float, Sequence[int]]] = []
    for candidate in job.candidates():
        timing, error = measure(subject, candidate, wanted)
        assert error <= TOLERANCE[job.dtype], (job, candidate, error)
        measured.append((timing.median, candidate))
    return min(measured)


def _said(
    n: int,
    k: int,
    rows: int,
    bits: int,
    block: int,
    milliseconds: float,
    size: float,
    bandwidth: float,
    wide: float,
    candidate: Sequence[int],
) -> dict[str, Any]:
    share, ratio = size / (milliseconds / 1e3) / bandwidth, wide / milliseconds
    form = f"{bits} bit" + (f" in blocks of {block}" if block else "")
    print(
        f"{rows:2d} x {n} x {k}, {form}: {milliseconds * 1e3:.1f} µs, {share:.0%} of a copy, {ratio:.2f}x bfloat16's "
        f"one row, {list(candidate)}",
        flush=True,
    )
    return {
        "rows": rows,
        "n": n,
        "k": k,
        "bits": bits,
        "block": block,
        "ms": milliseconds,
        "share_of_copy": share,
        "ratio_to_bf16": ratio,
        "candidate": list(candidate),
    }


if __name__ == "__main__":
    main()
