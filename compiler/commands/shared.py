"""Options that several commands take, and what all of them print and refuse."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import TamagoError


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """What `optimize` and `explain` share."""
    parser.add_argument("--target", default="cpu", help="cpu (default), cuda, webgpu, or web: a browser")
    parser.add_argument(
        "--drift", default="rounding", choices=["none", "rounding"], help="none: bit-identical rules only"
    )
    parser.add_argument("--objective", default="latency", choices=["latency", "size"])
    parser.add_argument("--threads", type=int, help="threads of one operator (default: the runtime's own choice)")
    parser.add_argument("--time", type=float, metavar="SECONDS", help="stop searching and timing after this long")
    parser.add_argument("--inputs", type=Path, metavar="FILE.npz", help="inputs to verify and time on, by input name")
    parser.add_argument(
        "--keep", action="append", default=[], metavar="NAME", help="an input with a default that stays one"
    )
    parser.add_argument(
        "--portable",
        action="store_true",
        help="nothing outside the ONNX standard, no 8-bit codes for newer processors only",
    )
    parser.add_argument("--store", type=Path, help="where measured prices are kept")


def add_size_options(parser: argparse.ArgumentParser) -> None:
    """Sizes for made-up inputs where the model leaves them free."""
    parser.add_argument("--batch", type=int, default=1, help="size of a free first dimension (default: 1)")
    parser.add_argument("--length", type=int, default=1, help="size of other free dimensions (default: 1)")


def search_options(options: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments for `tamago.compile`."""
    return {
        "target": options.target,
        "drift": options.drift,
        "objective": options.objective,
        "threads": options.threads,
        "time_limit": options.time,
        "keep": options.keep,
        "portable": options.portable,
        "store": options.store,
    }


def require_count(name: str, value: int, least: int) -> None:
    """Raise U006 for an option that is too small to mean anything."""
    if value < least:
        raise TamagoError("U006", f"--{name} is {value}", todo=f"use a number from {least}")


def require_folder(folder: Path) -> None:
    """Raise M041 where what is to be written has no folder to lie in: before the search, not after it."""
    if not folder.is_dir():
        raise TamagoError("M041", "there is no such folder", where=str(folder), todo="make it first")


def print_json(found: Any) -> None:
    """One object, sorted, so that two runs can be compared."""
    print(json.dumps(found, indent=2, sort_keys=True, default=str), flush=True)
