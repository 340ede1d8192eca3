"""Other optimisers and runtimes as functions of one shape, each answering why it cannot be had or cannot do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx

from tamago.compiler.facts import Array

Feeds = Mapping[str, Array]
Run = Callable[[], Sequence[Any]]


class Unavailable(Exception):
    """Why a peer has no figure for a model."""


@dataclass(frozen=True)
class Peer:
    """A named way from a model to something that can be called."""

    name: str
    prepare: Callable[[onnx.ModelProto, Feeds, int], Run]


def session(model: onnx.ModelProto, feeds: Feeds, threads: int, *, optimise: bool = True) -> Run:
    """Plain ONNX Runtime with its own default optimisation, or with none."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    found = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = {i.name for i in found.get_inputs()}
    known = {k: v for k, v in feeds.items() if k in names}
    return lambda: found.run(None, known)


def _need(module: str) -> None:
    if find_spec(module) is None:
        raise Unavailable(f"{module} is not installed")


def _onnxslim(model: onnx.ModelProto, feeds: Feeds, threads: int) -> Run:
    _need("onnxslim")
    import onnxslim  # pyright: ignore[reportMissingImports]  # only the extra `peers` installs it

    return session(onnxslim.slim(onnx.ModelProto.FromString(model.SerializeToString())), feeds, threads)


def _onnxsim(model: onnx.ModelProto, feeds: Feeds, threads: int) -> Run:
    _need("onnxsim")
    import onnxsim  # pyright: ignore[reportMissingImports]  # only the extra `peers` installs it

    simplified, _ = onnxsim.simplify(onnx.ModelProto.FromString(model.SerializeToString()))
    return session(simplified, feeds, threads)


def _onnxscript(model: onnx.ModelProto, feeds: Feeds, threads: int) -> Run:
    from onnxscript import optimizer

    return session(optimizer.optimize(onnx.ModelProto.FromString(model.SerializeToString())), feeds, threads)


def _openvino(precision: str) -> Callable[[onnx.ModelProto, Feeds, int], Run]:
    def prepare(model: onnx.ModelProto, feeds: Feeds, threads: int) -> Run:
        _need("openvino")
        import openvino as ov  # pyright: ignore[reportMissingImports]  # only the extra `peers` installs it

        core = ov.Core()
        network = core.read_model(model.SerializeToString())
        network.reshape({k: list(np.shape(v)) for k, v in feeds.items()})
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = core.compile_model(network, "CPU", options).create_infer_request()
        for name, array in feeds.items():
            request.set_tensor(name, ov.Tensor(array))
        outputs = range(len(network.outputs))

        def run() -> list[Any]:
            request.infer()
            return [request.get_output_tensor(i).data for i in outputs]

        return run

    return prepare


def _tamago(model: onnx.ModelProto, feeds: Feeds, threads: int) -> Run:
    import tamago

    compiled = tamago.compile(model, feeds, threads=threads)
    return session(onnx.ModelProto.FromString(_bytes(compiled)), feeds, threads)


def _bytes(compiled: Any) -> bytes:
    from tamago.compiler.files import to_proto

    return to_proto(compiled.graph).SerializeToString()


PEERS = (
    Peer("onnxruntime", session),
    Peer("tamago", _tamago),
    Peer("onnxslim", _onnxslim),
    Peer("onnxsim", _onnxsim),
    Peer("onnxscript", _onnxscript),
    Peer("openvino f32", _openvino("f32")),
    Peer("openvino bf16", _openvino("bf16")),
    Peer("again", session),
)
