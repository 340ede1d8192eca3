"""Run a model in ONNX Runtime's CPU provider."""

from __future__ import annotations

import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ...compiler.beside import at_once
from ...compiler.errors import EXIT_UNSUPPORTED, TamagoError
from ...compiler.facts import Array
from ...compiler.files import to_proto, write_model
from ...compiler.ir import graphs
from ...compiler.serialization import tensors
from .code_sums import IN_FULL, OBEYED, REFUSED, doubt_of, sums_are_wide

SMALLEST_SHARED = 1 << 14  # bytes: smaller weights are written into the message
LARGEST_MESSAGE = 1 << 30  # bytes: where more than this cannot be shared, weights travel in a file beside the model
_SHARED = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.INT8, ir.DataType.UINT8})


class Program:
    """A model loaded into a session.

    Args:
        model: what to run; its weights are read once.
        threads: of one operator; None lets the runtime choose.
        optimise: False runs the graph exactly as it is written.
    """

    def __init__(self, model: ir.Model, threads: int | None = None, *, optimise: bool = True) -> None:
        self.session, self._weights, self.note = _loaded(model, threads, optimise)
        self.at_once = at_once(threads)
        self.inputs: list[str] = [i.name for i in self.session.get_inputs()]
        self.outputs: list[str] = [o.name for o in self.session.get_outputs()]
        self._takes = {*self.inputs, *(i.name for i in self.session.get_overridable_initializers())}

    def __call__(self, feeds: Mapping[str, Array]) -> list[Any]:
        """Outputs in the graph's order.

        Raises:
            TamagoError: B002, the runtime refuses these inputs or fails on them.
        """
        try:
            return self.session.run(None, self.known(feeds))
        except Exception as error:
            if not is_runtime_error(error):
                raise
            raise TamagoError(
                "B002", "ONNX Runtime cannot run the model on these inputs", why=str(error).strip().split("\n")[0]
            ) from error

    def bound(self, feeds: Mapping[str, Array]) -> Callable[[], object]:
        """A call whose inputs and outputs are bound beforehand: what it takes is the graph's own time.

        Passing an array from or to Python takes 0.8 µs, as long as a small operator.
        """
        import onnxruntime as ort

        given = self.known(feeds)
        try:
            binding = self.session.io_binding()
            for name, array in given.items():
                binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C")))
            for name in self.outputs:
                binding.bind_output(name)
            self.session.run_with_iobinding(binding)
        except Exception as error:  # a type that cannot be bound: strings, sequences, an optional value
            if not is_runtime_error(error):
                raise
            return lambda: self.session.run(None, given)
        return lambda: self.session.run_with_iobinding(binding)

    def known(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Those of the feeds that the graph takes."""
        return {k: v for k, v in feeds.items() if k in self._takes}


def _loaded(model: ir.Model, threads: int | None, optimise: bool) -> tuple[Any, list[Any], str]:
    """A session, the weights that it reads, and what is to be said of its 8-bit codes."""
    doubt = doubt_of(model)
    if doubt:
        # The runtime's option does not go with every graph: not with a zero point that two weights have.
        with suppress(Exception):
            return *_session(model, threads, optimise, in_full=True), doubt + OBEYED
    try:
        return *_session(model, threads, optimise, in_full=False), doubt and doubt + REFUSED
    except Exception as error:
        raise TamagoError(
            "B001",
            "ONNX Runtime does not load this model",
            why=str(error).strip().split("\n")[0],
            todo=_todo(model, str(error)),
            exit_code=EXIT_UNSUPPORTED,
        ) from error


def _todo(model: ir.Model, why: str) -> str:
    dtypes = {value.dtype for value in (*model.graph.inputs, *model.graph.initializers.values())}
    if ir.DataType.BFLOAT16 in dtypes:
        return "give the model in single precision, model.float(): few of its CPU kernels take bfloat16"
    if ir.DataType.DOUBLE in dtypes and "find an implementation" in why:
        return "give the model in single precision, model.float(): some of its CPU kernels do not take float64"
    return "check that the file runs in ONNX Runtime unoptimised"


def is_runtime_error(error: Exception) -> bool:
    """ONNX Runtime's own exception classes share no base but Exception."""
    return type(error).__module__.startswith("onnxruntime") or isinstance(error, (RuntimeError, ValueError))


def _session(model: ir.Model, threads: int | None, optimise: bool, *, in_full: bool) -> tuple[Any, list[Any]]:
    """A session, and the large weights it reads, which must live as long; in a message each would be copied often."""
    import onnxruntime as ort

    options: Any = ort.SessionOptions()
    options.log_severity_level = 4
    if in_full:
        options.add_session_config_entry(*IN_FULL)
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    shared = {id(tensor): (name, array) for name, tensor, array in _large_weights(model)}

    def reference(tensor: ir.TensorProtocol) -> ir.TensorProtocol | None:
        if id(tensor) not in shared:
            return None
        # The place is never read: the runtime is given the values by name.
        return ir.ExternalTensor(
            "weights", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name or ""
        )

    values = [ort.OrtValue.ortvalue_from_numpy(array) for _, array in shared.values()]
    if values:
        options.add_external_initializers([name for name, _ in shared.values()], values)
    providers = ["CPUExecutionProvider"]
    if sum(tensor.nbytes for tensor in tensors(model) if id(tensor) not in shared) < LARGEST_MESSAGE:
        data = to_proto(model, reference).SerializeToString()
        return ort.InferenceSession(data, options, providers=providers), values
    with tempfile.TemporaryDirectory(prefix="tamago-") as folder:
        path = Path(folder) / "model.onnx"
        write_model(model, path, external=True)
        return ort.InferenceSession(str(path), options, providers=providers), values


def _large_weights(model: ir.Model) -> Iterator[tuple[str, ir.TensorProtocol, Array]]:
    """Initializers of the main graph that are worth sharing; one that two names have is written instead.

    The runtime forgets initializers that nothing reads before it looks for those it is given.
    """
    owners = Counter(id(value.const_value) for graph in graphs(model.graph) for value in graph.initializers.values())
    read = {value for node in model.graph.all_nodes() for value in node.inputs}
    packed = _repacked(model)
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or value not in read or owners[id(tensor)] > 1 or value.is_graph_input():
            continue
        if tensor.dtype not in _SHARED or tensor.nbytes < SMALLEST_SHARED:
            continue
        array = np.asarray(tensor.numpy(), order="C")
        # A copy: the weights may be a PyTorch module's own, which its owner may go on training.
        yield name, tensor, array if value in packed and array.flags.aligned else array.copy()


def _repacked(model: ir.Model) -> set[ir.Value]:
    """Weights that are read by matrix products alone: the runtime lays them out anew, and so has its own copy."""
    uses: dict[ir.Value, list[bool]] = {}
    for node in model.graph.all_nodes():
        for position, value in enumerate(node.inputs):
            if value is not None and value.is_initializer():
                product = node.domain == "" and node.op_type in ("MatMul", "Gemm") and position == 1
                uses.setdefault(value, []).append(product and value.dtype == ir.DataType.FLOAT)
    return {v for v, found in uses.items() if all(found) and v.shape is not None and v.shape.rank() == 2}


def environment(threads: int | None) -> str:
    """Everything a price depends on besides the operator: target, device, threads, versions."""
    import onnxruntime as ort

    # Virtual machines of one processor's name may or may not be given its newer instructions.
    narrow = "" if sums_are_wide() else " sums of 16 bits"
    return f"onnxruntime {ort.__version__} cpu {processor()}{narrow} threads {threads or 'default'}"


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
