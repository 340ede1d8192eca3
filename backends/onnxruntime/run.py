"""Run a model in ONNX Runtime's CPU provider."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ...compiler.errors import EXIT_UNSUPPORTED, TamagoError
from ...compiler.facts import Array
from ...compiler.files import to_proto, write_model

LARGEST_MESSAGE = 1 << 30  # bytes: beyond this weights travel in a file beside the model


class Program:
    """A model loaded into a session.

    Args:
        model: what to run; its weights are read once.
        threads: of one operator; None lets the runtime choose.
        optimise: False runs the graph exactly as it is written.
    """

    def __init__(self, model: ir.Model, threads: int | None = None, *, optimise: bool = True) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        if threads is not None:
            options.intra_op_num_threads = threads
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self.session = _session(ort, model, options)
        except Exception as error:
            raise TamagoError(
                "B001",
                "ONNX Runtime does not load this model",
                why=str(error).strip().split("\n")[0],
                todo="check that the file runs in ONNX Runtime unoptimised",
                exit_code=EXIT_UNSUPPORTED,
            ) from error
        self.inputs: list[str] = [i.name for i in self.session.get_inputs()]
        self.outputs: list[str] = [o.name for o in self.session.get_outputs()]

    def __call__(self, feeds: Mapping[str, Array]) -> list[Any]:
        """Outputs in the graph's order.

        Raises:
            TamagoError: B002, the runtime refuses these inputs or fails on them.
        """
        try:
            return self.session.run(None, self.known(feeds))
        except Exception as error:
            if not type(error).__module__.startswith("onnxruntime") and not isinstance(
                error, (RuntimeError, ValueError)
            ):
                raise
            raise TamagoError(
                "B002", "ONNX Runtime cannot run the model on these inputs", why=str(error).strip().split("\n")[0]
            ) from error

    def known(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Those of the feeds that the graph takes."""
        return {k: v for k, v in feeds.items() if k in self.inputs}


def _session(ort: Any, model: ir.Model, options: Any) -> Any:
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    providers = ["CPUExecutionProvider"]
    if size < LARGEST_MESSAGE:
        return ort.InferenceSession(to_proto(model).SerializeToString(), options, providers=providers)
    with tempfile.TemporaryDirectory(prefix="tamago-") as folder:
        path = Path(folder) / "model.onnx"
        write_model(model, path, external=True)
        return ort.InferenceSession(str(path), options, providers=providers)


def environment(threads: int | None) -> str:
    """Everything a price depends on besides the operator: target, device, threads, versions."""
    import onnxruntime as ort

    return f"onnxruntime {ort.__version__} cpu {processor()} threads {threads or 'default'}"


def processor() -> str:
    """The processor's own name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def as_feeds(names: Sequence[str], arrays: Sequence[Array]) -> dict[str, Array]:
    """Arrays by input name, contiguous as the runtime wants them."""
    return {n: np.asarray(a, order="C") for n, a in zip(names, arrays, strict=True)}
