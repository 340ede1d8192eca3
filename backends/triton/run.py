"""A model as an FX program on a GPU, captured as a CUDA graph for each set of input shapes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, fx

from ...compiler.errors import EXIT_UNSUPPORTED, TamagoError
from ...compiler.facts import Array
from ...compiler.fold import fold
from ...compiler.generation.alias import aliases
from ...compiler.ir import unique_names
from ...compiler.operators import detach
from ...compiler.optimise import Names
from ...compiler.torch_operators.dtypes import torch_dtype
from ...compiler.torch_program import torch_program
from ...compiler.torch_tensors import to_numpy, to_torch
from .counters import Counters, own_counters
from .early_starts import starting
from .layout import channels_last, lay_out_weights
from .library.one_row import own
from .lowering import claim  # and tamago's own operators become calls of kernels
from .timing import interleave_graphs
from .widened import wide, widen

if TYPE_CHECKING:
    from .tune import Tuner

KERNELS_VERSION = 8  # what prices and records were measured with; another number where kernels change
ROUNDS, SECONDS = 5, 0.2  # of replays, to choose between two captures
SHORT = 0.01  # milliseconds of a kernel
WARM = 2  # runs before the capture: libraries choose their kernels and allocate in them


class Program:
    """A model on a device.

    Args:
        model: what to run.
        tuner: picks the settings of its kernels; None: their defaults.
        device: "cuda", or "cpu" for the same FX program without kernels and graphs.
        inner: a part of a program: pictures come to it as its neighbours leave them, channels last.
        single: what is of half precision is computed in single, and only results are rounded.

    Raises:
        TamagoError: B010, torch cannot express the model; B020, no GPU.
    """

    def __init__(
        self,
        model: ir.Model,
        tuner: Tuner | None = None,
        device: str = "cuda",
        *,
        inner: bool = False,
        single: bool = False,
    ) -> None:
        if device == "cuda":
            require_gpu()
        whole = model.clone()
        detach(whole)
        claim(whole)
        # Weights that approximation wrote smaller are made of constants; a transposed matrix costs nothing.
        fold(whole.graph, whole.opset_imports.get("", 1), Names(unique_names(whole.graph)), _is_transpose)
        self.module: fx.GraphModule = torch_program(whole).to(device).eval()
        # A captured graph owns its inputs: what the caller gives away it may write to.
        self._given = _give_away(self.module, aliases(model)) if device == "cuda" else frozenset[int]()
        if tuner is not None:
            tuner.choose(self.module, whole)
        convolves = device == "cuda" and lay_out_weights(self.module)
        self._laid = channels_last if inner and convolves else _in_order
        self.device = torch.device(device)
        self.inputs: list[str] = list(self.module.meta["inputs"])
        self.outputs: list[str] = list(self.module.meta["outputs"])
        self.note = ""  # why it is not captured
        self._dtypes: list[torch.dtype | None] | None = None  # of results, where another precision computes them
        if single:
            self._dtypes = [None if v.dtype is None else torch_dtype(v.dtype) for v in model.graph.outputs]
            widen(self.module)
        self._captured: dict[tuple[Any, ...], Captured] = {}

    def __call__(self, feeds: Mapping[str, Array]) -> list[Any]:
        """Arrays in, arrays out, in the graph's order.

        Raises:
            TamagoError: B002, the program fails on these inputs.
        """
        return [to_numpy(t) if isinstance(t, Tensor) else t for t in self.run_by_name(feeds)]

    def run_by_name(self, feeds: Mapping[str, Any]) -> list[Any]:
        """Tensors (by reference where they are on the device already) or arrays in, tensors out.

        Raises:
            TamagoError: B002, the program fails on these inputs.
        """
        return self.run(self.tensors(feeds))

    def tensors(self, feeds: Mapping[str, Any]) -> list[Tensor]:
        """The inputs on the device, in the program's order."""
        given = [feeds[name] for name in self.inputs]
        return [(g if isinstance(g, Tensor) else to_torch(np.asarray(g))).to(self.device) for g in given]

    def run(self, tensors: Sequence[Tensor]) -> list[Any]:
        """Tensors on the device in, tensors of the caller's own out.

        Raises:
            TamagoError: B002, the program fails on these inputs.
        """
        if self._dtypes is not None:
            found = zip(self._eager(wide(tensors)), self._dtypes, strict=True)
            return [o.to(dtype) if isinstance(o, Tensor) and dtype is not None else o for o, dtype in found]
        if self.device.type != "cuda" or self.note:
            return self._eager(tensors)
        key = _shapes(tensors)
        captured = self._captured.get(key)
        if captured is None:
            captured = self._capture(tensors)
            if captured is None:
                return self._eager(tensors)
            self._captured[key] = captured
        return captured(tensors)

    def replayable(self, tensors: Sequence[Tensor]) -> Captured | None:
        """The captured graph for these inputs, for timing alone; None where it could not be captured."""
        self.run(tensors)
        return self._captured.get(_shapes(tensors))

    def _eager(self, tensors: Sequence[Tensor], *, owned: bool = False) -> list[Any]:
        if self._given and not owned:  # the caller's own are not written to
            tensors = [_in_order(t) for t in tensors]
        try:
            with torch.no_grad(), exact_convolutions():
                return list(self.module(*tensors))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            first = str(error).strip().split("\n")[0]
            raise TamagoError("B002", "torch cannot run the program on these inputs", why=first) from error

    def _capture(self, tensors: Sequence[Tensor]) -> Captured | None:
        inputs = [self._laid(t) for t in tensors]
        with starting(early=False) as starts:
            plain = self._capture_once(inputs)
        kernels = starts.asked // (WARM + 1)
        if plain is None or self._given or not _is_short(plain, kernels):  # what is given away is written to once
            return plain
        early = self._captured_early(inputs)
        return early if early is not None and _alike(plain, early) and _faster(plain, early) else plain

    def _captured_early(self, inputs: list[Tensor]) -> Captured | None:
        """With kernels that start early; what fails, for want of memory say, leaves the program as it was."""
        try:
            with starting(early=True):
                found = self._capture_once(inputs)
        except (TamagoError, RuntimeError):
            found = None
        self.note = ""
        return found

    def _capture_once(self, inputs: list[Tensor]) -> Captured | None:
        with own_counters() as counters:
            return self._capture_with(inputs, counters)

    def _capture_with(self, inputs: list[Tensor], counters: Counters) -> Captured | None:
        for _ in range(WARM):
            self._eager(inputs, owned=True)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # A workspace that cuBLAS keeps from an earlier capture would be freed with that one's memory.
        torch._C._cuda_clearCublasWorkspaces()  # pyright: ignore[reportPrivateUsage]
        try:
            with warnings.catch_warnings(), torch.cuda.graph(graph):
                warnings.simplefilter("ignore")  # a program of views alone has an empty graph
                outputs = self._eager(inputs, owned=True)
        except (TamagoError, RuntimeError) as error:
            # What asks the device for a number while it runs (a loop's condition, a size) cannot be replayed.
            self.note = f"not captured as a CUDA graph: {str(error).strip().splitlines()[0]}"
            torch.cuda.synchronize()
            return None
        if not all(isinstance(o, Tensor) for o in outputs):
            self.note = "not captured as a CUDA graph: an output is no tensor"
            return None
        return Captured(graph, inputs, outputs, self.module, self._given, counters)


def _is_short(plain: Captured, kernels: int) -> bool:
    """Whether a program is done with each of so many kernels in microseconds, so that it matters when they start."""
    if not kernels:
        return False
    (timing,) = interleave_graphs([plain.replay], rounds=ROUNDS, seconds=SECONDS)
    return timing.median < SHORT * kernels


def _alike(plain: Captured, early: Captured) -> bool:
    """Whether two captures of one program leave the same results: only when kernels start may differ."""
    plain.replay()
    early.replay()
    pairs = zip(plain.outputs, early.outputs, strict=True)
    return all(bool(((a == b) | ((a != a) & (b != b))).all()) for a, b in pairs)


def _faster(plain: Captured, early: Captured) -> bool:
    """Whether replays of the second take less."""
    first, second = interleave_graphs([plain.replay, early.replay], rounds=ROUNDS, seconds=SECONDS)
    return second.median < first.median


@dataclass
class Captured:
    """A graph with the memory that it reads its inputs from and leaves its outputs in: freed, it would read another's.

    Args:
        graph: what is replayed.
        inputs: its own.
        outputs: its own.
        module: holds the weights.
        given: numbers of the outputs that share the memory of an input which the caller gives away.
        counters: its kernels' own, since two graphs may be replayed at once.
    """

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: list[Tensor]
    module: fx.GraphModule
    given: frozenset[int]
    counters: Counters

    def replay(self) -> None:
        """Run on the inputs that are there."""
        self.graph.replay()

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Copy in what is not there already, run, and hand out copies of what the next run would write over."""
        for held, given in zip(self.inputs, tensors, strict=True):
            if held.data_ptr() != given.data_ptr():
                held.copy_(given)
        self.graph.replay()
        return [o if number in self.given else o.clone() for number, o in enumerate(self.outputs)]


def _in_order(tensor: Tensor) -> Tensor:
    """A copy that lies in the order of its axes."""
    return tensor.clone(memory_format=torch.contiguous_format)


def _is_transpose(node: ir.Node) -> bool:
    return node.op_type == "Transpose" and not node.domain


def _shapes(tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    """What a captured graph is for."""
    return tuple((tuple(t.shape), t.dtype) for t in tensors)


def _give_away(module: fx.GraphModule, given: Mapping[str, str]) -> frozenset[int]:
    """Let caches be written in place: results that may share the memory of an input, and are copies of it so far."""
    names: list[str] = list(module.meta["outputs"])
    inputs = dict(zip(module.meta["inputs"], module.graph.find_nodes(op="placeholder"), strict=True))
    results = module.graph.output_node().args[0]
    assert isinstance(results, (tuple, list))
    done: set[int] = set()
    for number, (name, result) in enumerate(zip(names, results, strict=True)):
        source = inputs.get(given.get(name, ""))
        if not isinstance(result, fx.Node) or result.target is not own or source is None:
            continue
        if result.args[0] is source and len(source.users) == 1:
            result.replace_all_uses_with(source)
            module.graph.erase_node(result)
            done.add(number)
    module.recompile()
    return frozenset(done)


def exact_convolutions() -> Any:
    """float32 stays float32 (cuDNN would use tf32), and the fastest algorithm is looked for."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)


def require_gpu() -> None:
    """Raise B020 where there is no NVIDIA GPU that torch can use, B021 where Triton is missing."""
    if find_spec("triton") is None:
        raise TamagoError(
            "B021",
            "target 'cuda' needs Triton",
            todo="pip install 'tamago[cuda]'",
            exit_code=EXIT_UNSUPPORTED,
        )
    if not torch.cuda.is_available():
        raise TamagoError(
            "B020",
            "target 'cuda' needs an NVIDIA GPU",
            why="torch sees none here",
            todo="run it on a machine with a GPU and a CUDA build of torch, or use target 'cpu'",
            exit_code=EXIT_UNSUPPORTED,
        )


def environment() -> str:
    """Everything a price or a record depends on besides the operator."""
    require_gpu()
    major, minor = torch.cuda.get_device_capability()
    name = torch.cuda.get_device_name()
    return (
        f"cuda {name} sm_{major}{minor} torch {torch.__version__} triton {version('triton')} kernels {KERNELS_VERSION}"
    )
