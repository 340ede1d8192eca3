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


@dataclass(frozen=True)
class Subject:
    """What every peer is given.

    Args:
        model: as torch exports it, or as the file is.
        feeds: its inputs.
        threads: for one operator.
        eager: the torch module's own call, where the model came from one.
    """

    model: onnx.ModelProto
    feeds: Feeds
    threads: int
    eager: Callable[[], Any] | None = None


class Unavailable(Exception):
    """Why a peer has no figure for a model."""


@dataclass(frozen=True)
class Peer:
    """A named way from a model to something that can be called."""

    name: str
    prepare: Callable[[Subject], Run]


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


def _onnxruntime(subject: Subject) -> Run:
    return session(subject.model, subject.feeds, subject.threads)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model.SerializeToString())


def _need(module: str) -> None:
    if find_spec(module) is None:
        raise Unavailable(f"{module} is not installed")


def _onnxslim(subject: Subject) -> Run:
    _need("onnxslim")
    import onnxslim  # pyright: ignore[reportMissingImports]  # only the extra `peers` installs it

    found: Any = onnxslim.slim(_copy(subject.model))
    return session(found, subject.feeds, subject.threads)


def _onnxsim(subject: Subject) -> Run:
    _need("onnxsim")
    import onnxsim  # pyright: ignore[reportMissingImports]  # only the extra `peers` installs it

    simplified, _ = onnxsim.simplify(_copy(subject.model))
    return session(simplified, subject.feeds, subject.threads)


def _onnxscript(subject: Subject) -> Run:
    from onnxscript import optimizer

    return session(optimizer.optimize(_copy(subject.model)), subject.feeds, subject.threads)


def _openvino(precision: str) -> Callable[[Subject], Run]:
    def prepare(subject: Subject) -> Run:
        _need("openvino")
        import openvino as ov  # pyright: ignore[reportMissingImports]  # only the extra `peers` installs it

        core = ov.Core()
        network = core.read_model(subject.model.SerializeToString())
        network.reshape({k: list(np.shape(v)) for k, v in subject.feeds.items()})
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": subject.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = core.compile_model(network, "CPU", options).create_infer_request()
        for name, array in subject.feeds.items():
            request.set_tensor(name, ov.Tensor(array))
        outputs = range(len(network.outputs))

        def run() -> list[Any]:
            request.infer()
            return [request.get_output_tensor(i).data for i in outputs]

        return run

    return prepare


def _torch_compile(subject: Subject) -> Run:
    """The module as Inductor compiles it: only where the model came from torch."""
    import torch

    if subject.eager is None:
        raise Unavailable("the model is a file")
    torch.set_num_threads(subject.threads)
    compiled = torch.compile(subject.eager)

    def run() -> list[Any]:
        with torch.no_grad():
            leaves = torch.utils._pytree.tree_leaves(compiled())  # pyright: ignore  # torch's own way through outputs
        return [leaf.numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]

    return run


def _tamago(subject: Subject) -> Run:
    import tamago
    from tamago.compiler.files import to_proto

    compiled = tamago.compile(subject.model, subject.feeds, threads=subject.threads)
    return session(_copy(to_proto(compiled.graph)), subject.feeds, subject.threads)


PEERS = (
    Peer("onnxruntime", _onnxruntime),
    Peer("tamago", _tamago),
    Peer("onnxslim", _onnxslim),
    Peer("onnxsim", _onnxsim),
    Peer("onnxscript", _onnxscript),
    Peer("openvino f32", _openvino("f32")),
    Peer("openvino bf16", _openvino("bf16")),
    Peer("torch.compile", _torch_compile),
    Peer("again", _onnxruntime),
)
