"""The face of the compiler: `compile`, `optimize`, `load`, and the model they return."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx_ir as ir

from .backend import OnDevice
from .errors import TamagoError
from .facts import Array
from .files import read_model, to_proto, write_model
from .ir import dims
from .options import Options, require_none
from .pipeline import Compiled, checked, compile_front, compile_traced, require_budget, run_as_it_is
from .report import Report
from .rule import Drift
from .streaming import is_too_large
from .trace import Traced, trace
from .verify import has_sizes

if TYPE_CHECKING:
    import onnx

    from .approximate.budget import Budget
    from .from_torch.signature import Signature
    from .store import Store
    from .within_budget import Request

Source = Any  # nn.Module, ExportedProgram, GraphModule, ONNX path / bytes / ModelProto, onnx_ir.Model


class CompiledModel:
    """A compiled program, called like the model it was made from.

    A model from torch takes and returns torch tensors in the original's own nesting; a model from ONNX takes its inputs
    by name or by position (arrays) and returns a list of arrays in the graph's order.

    Attributes:
        graph: the program as an `onnx_ir.Model`.
        report: what was done and why.
    """

    def __init__(self, compiled: Compiled, signature: Signature | None) -> None:
        self._compiled, self._signature = compiled, signature
        self.graph: ir.Model = compiled.model
        self.report: Report = compiled.report

    @property
    def program(self) -> Any:
        """The program on its target: a `backends.*.run.Program`."""
        return self._compiled.program

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program. One too large to be held while it was compiled is loaded at its first call.

        Raises:
            TamagoError: U010, U011 or T03x, the arguments are not the model's; B003, it does not fit in memory.
        """
        program = self._compiled.program
        if self._signature is not None and isinstance(program, OnDevice):
            feeds = self._signature.feeds(args, kwargs, keep_tensors=True)
            return self._signature.unflatten(program.run_by_name(feeds))
        if self._signature is not None:
            return self._signature.unflatten(program(self._signature.flatten(args, kwargs)))
        return program(bind_inputs(self.graph.graph, args, kwargs))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the program as ONNX; an interrupted write leaves the old file or the new one."""
        write_model(self.graph, Path(path))

    def explain(self) -> str:
        """Each rule that was applied, where and what it is worth; each rule that was refused, and why."""
        return self.report.explain()

    def __repr__(self) -> str:
        return f"CompiledModel({self.report.summary()})"


def bind_inputs(graph: ir.Graph, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays by input name, from positional arguments, one mapping, or keywords.

    Raises:
        TamagoError: U010 an unknown or doubled input, U011 a missing one.
    """
    inputs = [v for v in graph.inputs if v.name not in graph.initializers]
    names = [v.name or "" for v in inputs]
    given: dict[str, Any] = {}
    if len(args) == 1 and isinstance(args[0], Mapping):
        given.update(args[0])
    else:
        if len(args) > len(names):
            raise TamagoError("U010", f"{len(args)} inputs given, the model takes {len(names)}", where=", ".join(names))
        given.update(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name in given:
            raise TamagoError("U010", "an input is given twice", where=name)
        given[name] = value
    known = {*names, *graph.initializers}
    unknown = [n for n in given if n not in known]
    if unknown:
        raise TamagoError(
            "U010", "the model has no such input", where=", ".join(unknown), todo=f"it takes: {', '.join(names)}"
        )
    optional = {v.name for v in inputs if isinstance(v.type, ir.OptionalType)}
    missing = [n for n in names if n not in given or (given[n] is None and n not in optional)]
    if missing:
        raise TamagoError("U011", "an input is missing", where=", ".join(missing), todo=f"it takes: {', '.join(names)}")
    return {n: v if v is None or isinstance(v, list) else _array(v) for n, v in given.items()}


def require_fit(graph: ir.Graph, feeds: Mapping[str, Any]) -> None:
    """Raise U012 for an array of another type, rank or fixed size than the graph declares: the runtime refuses it."""
    for value in graph.inputs:
        array, shape = feeds.get(value.name or ""), dims(value)
        if not isinstance(array, np.ndarray) or value.dtype in (None, ir.DataType.STRING):
            continue
        wanted, fits = value.dtype.numpy(), shape is None or has_sizes(array, shape)
        if array.dtype != wanted or not fits:
            sizes = "" if shape is None else f"[{', '.join(map(str, shape))}]"
            raise TamagoError(
                "U012",
                "an input does not fit the model",
                where=value.name or "",
                why=f"it is {array.dtype}{list(array.shape)}, the model takes {wanted}{sizes}",
                todo=f"array.astype(np.{wanted})" if fits else "give it in the shape that the model declares",
            )


def _array(value: Any) -> Array:
    if hasattr(value, "detach"):
        from .torch_tensors import to_numpy

        return to_numpy(value)
    return np.asarray(value)


def compile(
    model: Source,
    args: Sequence[Any] | Mapping[str, Any] | Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: str = "cpu",
    drift: Drift = "rounding",
    objective: Literal["latency", "size"] = "latency",
    dynamic_shapes: Any = None,
    threads: int | None = None,
    keep: Sequence[str] = (),
    portable: bool = False,
    time_limit: float | None = None,
    store: str | PathLike[str] | Store | None = None,
    budget: Budget | None = None,
    calibration: Iterable[Any] | None = None,
    workloads: Sequence[tuple[Any, float]] | None = None,
    methods: Sequence[str] | str | None = None,
    **testing: Any,
) -> CompiledModel:
    """The cheapest program that computes what `model` computes: exactly, or within a budget.

    Args:
        model: `nn.Module` in eval mode, `ExportedProgram`, FX `GraphModule`, ONNX path, bytes or `ModelProto`, or
            `onnx_ir.Model`.
        args: example inputs as the model takes them (one tensor need not be wrapped in a tuple); needed for torch
            modules, and what latency is judged on. For ONNX: arrays by position or a mapping by name.
        kwargs: example keyword inputs.
        target: "cpu" (ONNX Runtime), "cuda" (an NVIDIA GPU through torch and Triton), "webgpu" (any GPU, through wgpu)
            or "web" (a browser, which is not timed here).
        drift: "rounding" allows reassociation, verified; "none" only bit-identical rewrites.
        objective: "latency" or "size".
        dynamic_shapes: which dimensions may change, as `torch.export` takes it.
        threads: of one operator; None lets the runtime choose.
        keep: names of inputs with default values that must stay overridable.
        portable: forbid operators outside the ONNX standard, and new 8-bit codes that are not for every processor.
        time_limit: seconds for the whole compilation, tracing left out.
        store: where measured prices are kept; a path, an open store, or None for the user's own.
        budget: allowed error; approximate methods are used where they pay. None: exact rewrites only.
        calibration: yields `(inputs, target)` pairs: inputs a tuple or mapping as the model takes them (one tensor need
            not be wrapped), target whatever the loss needs. Half of them choose, half prove. Of what has no length, and
            may have no end, the first 4,096 are read, or 2 GiB.
        workloads: `(args, weight)` pairs that latency within the budget is judged on (default: `args`, which the exact
            program is judged on in any case); only with a budget.
        methods: names of the approximate methods that may be used (`rewrites/README.md`), or one; None: all but
            retraining. Only with a budget.
        testing: further fields of `Options`.

    Raises:
        TamagoError: every failure a user can cause, with a code; see `compiler/errors.py`.
    """
    options: dict[str, Any] = {
        "target": target,
        "drift": drift,
        "objective": objective,
        "threads": threads,
        "keep": tuple(keep),
        "portable": portable,
        "time_limit": time_limit,
        "store": store,
        "methods": _several(methods),
        **testing,
    }
    checked(budget, **options)
    if (budget is None) != (calibration is None):
        raise TamagoError("U048", "budget and calibration belong together", todo="give both, or neither")
    if budget is None:
        require_none(workloads=workloads, methods=options["methods"])
    traced = _trace(model, args, kwargs, dynamic_shapes)
    feeds = _feeds(traced, args, kwargs or {})
    request = None
    if budget is not None and calibration is not None:
        request = _request(traced, budget, calibration, workloads, feeds)
    return CompiledModel(compile_traced(traced, feeds, request, **options), traced.signature)


RISES = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1)


def frontier(
    model: Source,
    args: Sequence[Any] | Mapping[str, Any] | Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    budget: Budget,
    calibration: Iterable[Any],
    rises: Sequence[float] = RISES,
    workloads: Sequence[tuple[Any, float]] | None = None,
    methods: Sequence[str] | str | None = None,
    dynamic_shapes: Any = None,
    **options: Any,
) -> list[CompiledModel]:
    """What each bound on the error buys, from one search: the exact program, then one for every bound that buys more.

    Args:
        model: as for `compile`.
        args: as for `compile`.
        kwargs: as for `compile`.
        budget: what is judged; the numbers in `rises` take the place of what it allows.
        calibration: as for `compile`.
        rises: the bounds.
        workloads: as for `compile`.
        methods: as for `compile`.
        dynamic_shapes: as for `compile`.
        options: further arguments of `compile`.

    Returns:
        Programs in the order of their bounds, each cheaper than all before it and proved to be within its own bound;
        `report.approximation` holds the measured rise and the times.

    Raises:
        TamagoError: see `compile`; U043, no budget, or a bound that is no number from 0.
    """
    require_budget(budget)
    options["methods"] = _several(methods)
    checked(budget, **options)
    budget.bounds(rises)
    traced = _trace(model, args, kwargs, dynamic_shapes)
    feeds = _feeds(traced, args, kwargs or {})
    request = _request(traced, budget, calibration, workloads, feeds)
    return [CompiledModel(c, traced.signature) for c in compile_front(traced, feeds, request, rises, **options)]


def _several(names: Any) -> Any:
    """A list or the like as a tuple, which cannot change once it was checked; anything else as it is."""
    return tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else names


def _request(
    traced: Traced,
    budget: Budget,
    calibration: Iterable[Any],
    workloads: Sequence[tuple[Any, float]] | None,
    feeds: Mapping[str, Array] | None,
) -> Request:
    from .approximate.budget import Workload
    from .within_budget import Request

    def flatten(inputs: Any) -> Mapping[str, Array]:
        if traced.signature is not None and isinstance(inputs, Mapping):
            return traced.signature.flatten((), inputs)
        found = _feeds(traced, inputs, {})
        if found is None:
            raise TamagoError("U011", "a calibration sample has no inputs")
        return found

    def structure(outputs: Sequence[Any]) -> Any:
        if traced.signature is not None:
            return traced.signature.unflatten(outputs)
        return outputs[0] if len(outputs) == 1 else list(outputs)

    judged = [Workload(dict(flatten(inputs)), weight) for inputs, weight in _weighted(workloads or ())]
    if not judged and feeds is not None:
        judged = [Workload(dict(feeds))]
    return Request(budget, calibration, judged, flatten, structure)


def _weighted(workloads: Sequence[Any]) -> Iterator[tuple[Any, float]]:
    """Inputs and their weights.

    Raises:
        TamagoError: U051, an item is no pair or its weight no finite number above zero.
    """
    for number, item in enumerate(workloads):
        pair = isinstance(item, (tuple, list)) and len(item) == 2
        weight = item[1] if pair else None
        if not isinstance(weight, (int, float, np.integer, np.floating)) or not 0 < float(weight) < inf:
            raise TamagoError(
                "U051",
                "workloads must be (args, weight) pairs with weights above 0",
                where=f"workload {number}",
                todo="workloads=[((example,), 1.0)]",
            )
        yield item[0], float(weight)


def _trace(model: Source, args: Any, kwargs: Mapping[str, Any] | None, dynamic_shapes: Any) -> Traced:
    if _is_onnx(model):
        return trace(model)
    return trace(model, _as_tuple(args), dict(kwargs or {}), dynamic_shapes=dynamic_shapes)


def _is_onnx(model: Source) -> bool:
    return isinstance(model, (str, PathLike, bytes, ir.Model)) or type(model).__name__ == "ModelProto"


def _as_tuple(args: Any) -> tuple[Any, ...]:
    if isinstance(args, tuple):
        return args
    return tuple(args) if isinstance(args, list) else (args,)


def _feeds(traced: Traced, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Array] | None:
    if traced.signature is not None:
        given = _as_tuple(args)
        return traced.signature.flatten(given, kwargs) if given or kwargs else None
    given = ((args,) if args else ()) if isinstance(args, Mapping) else _as_tuple(args)
    if not given and not kwargs:
        return None
    feeds = bind_inputs(traced.model.graph, given, kwargs)
    require_fit(traced.model.graph, feeds)
    return feeds


def optimize(
    source: Source, destination: str | PathLike[str] | None = None, **options: Any
) -> onnx.ModelProto | CompiledModel:
    """Optimise an ONNX model: file to file, or to a `ModelProto` when no destination is given.

    Args:
        source: whatever `compile` takes.
        destination: where to write; then the `CompiledModel` is returned.
        options: as for `compile`.

    Raises:
        TamagoError: see `compile`.
    """
    compiled = compile(source, **options)
    if destination is None:
        return to_proto(compiled.graph)
    compiled.save(destination)
    return compiled


def load(path: str | PathLike[str], *, target: str = "cpu", threads: int | None = None) -> CompiledModel:
    """Bring a saved program back, ready to run; nothing is optimised again.

    Raises:
        TamagoError: M0xx the file cannot be read, B001 the target cannot run it, B003 it does not fit in memory.

    Warns:
        RuntimeWarning: its 8-bit codes are for processors that add their products otherwise than this one.
    """
    model = read_model(Path(path))
    compiled = run_as_it_is(model, Options(target=target, threads=threads))
    if target == "cpu" and not is_too_large(model):  # else what is to be said is how it runs: in pieces, elsewhere
        for note in compiled.report.notes:
            warnings.warn(note, RuntimeWarning, stacklevel=2)
    return CompiledModel(compiled, None)
