"""`tamago doctor`: versions, the processor, the store, and one tiny model through the whole compiler."""

from __future__ import annotations

import argparse
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from .shared import print_json

PACKAGES = ("egglog", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "numpy", "scipy", "torch")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes no options of its own."""
    del parser


def run(options: argparse.Namespace) -> int:
    """Print findings; exit code 1 when the self-test fails."""
    from ...backends.onnxruntime.code_sums import sums_are_wide
    from ...backends.onnxruntime.run import processor
    from ..store import Store

    found: dict[str, str] = {"python": sys.version.split()[0], "system": platform.platform(), "processor": processor()}
    found |= {name: _version(name) for name in PACKAGES}
    found["8-bit sums"] = "32 bits" if sums_are_wide() else "16 bits: codes are kept small enough for them"
    with Store.open() as store:
        found["store"] = str(store.stats())
    found["self-test"] = _self_test()
    if options.json:
        print_json(found)
    else:
        print("\n".join(f"{name:12} {what}" for name, what in found.items()))
    return 0 if found["self-test"].startswith("passed") else 1


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed" + (" (needed for torch models)" if name == "torch" else "")


def _self_test() -> str:
    import onnx_ir as ir

    from ..compiled import compile
    from ..errors import TamagoError

    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 20]>
        g (float[4, 8] x) => (float[4, 8] y) {
        a = Transpose <perm=[1, 0]> (x) b = Transpose <perm=[1, 0]> (a) y = Relu (b) }"""
    )
    try:
        compiled = compile(model, measure=False, store=":memory:")
    except TamagoError as error:
        return f"failed: {error}"
    nodes = compiled.report.after.nodes
    return "passed" if nodes == 1 else f"failed: {nodes} nodes are left where one is enough"
