"""`torch.compile(model, backend="tamago")`.

torch.compile captures a piece of the model's Python as a graph; AOTAutograd makes it functional (what the model
writes to its parameters, buffers and inputs comes out as further results, and torch writes it back after each run);
tamago compiles that graph at its first call, when real inputs are there to measure with: for ONNX Runtime where its
tensors are on the CPU, for target "cuda" where they are on a GPU.

Weights are constants of the compiled program. Every call checks that they are the same, unchanged tensors; when they
are not, a second program, with the weights as inputs, takes over. (Writes through `.data` hide from torch's version
counter and are not seen; writing under `torch.no_grad()` is.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..compiler.backend import OnDevice
from ..compiler.errors import TamagoError
from ..compiler.facts import Array

if TYPE_CHECKING:
    import torch

    from ..compiler.backend import Runnable
    from ..compiler.from_torch.signature import Signature
    from ..compiler.trace import Traced

OPSET = 18


class FallbackWarning(UserWarning):
    """torch.compile asked tamago for something that eager PyTorch does instead."""


_said: set[str] = set()


def tamago(
    graph: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Callable[..., Any]:
    """Compile a graph captured by torch.compile; the entry point of group `torch_dynamo_backends`.

    Args:
        graph: what was captured, with its parameters and buffers as inputs.
        example_inputs: fake or real values of all inputs; sizes that vary are `torch.SymInt`.
        options: fields of the pipeline's `Options`, and `freeze=False` to keep the weights inputs from the start.
        mode: torch.compile's presets; tamago has none, and takes any.
    """
    import torch
    from torch._dynamo.backends.common import aot_autograd
    from torch._dynamo.exc import TorchDynamoException

    from ..compiler.from_torch.aten import whole_operators

    del mode
    tensors = [value for value in example_inputs if isinstance(value, torch.Tensor)]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return _eager(graph, "gradients may be asked for; call the model under torch.no_grad() to compile it")
    options = dict(options or {})
    devices = {tensor.device for tensor in tensors}
    reason = _no_target(devices, options)
    if reason:
        return _eager(graph, reason)
    weights = _weight_positions(graph)

    def compile_inference(functional: torch.fx.GraphModule, fakes: Sequence[Any]) -> Callable[..., Any]:
        del fakes
        return _Region(functional, weights, options)

    try:
        with whole_operators():
            return aot_autograd(fw_compiler=compile_inference, inference_compiler=compile_inference)(
                graph, list(example_inputs)
            )
    except TorchDynamoException:
        raise  # torch.compile's own control flow: it captures again
    except Exception as error:
        return _eager(graph, f"torch cannot make the graph functional: {error}")


def _no_target(devices: AbstractSet[torch.device], options: dict[str, Any]) -> str:
    """Why tensors on these devices are not tamago's; an empty text where they are, and the options say the target.

    What runs takes tensors where they lie and leaves its results there.
    """
    import torch

    here = {torch.device("cpu")}
    if torch.cuda.is_available():
        here.add(torch.device("cuda", torch.cuda.current_device()))
    if len(devices) > 1 or devices - here:
        names = ", ".join(sorted(map(str, devices)))
        return f"tensors on {names}; tamago compiles for the CPU, or for torch's current GPU"
    on_gpu = bool(devices - {torch.device("cpu")})
    target = options.setdefault("target", "cuda" if on_gpu else "cpu")
    if (target == "cuda") != on_gpu:
        return f"target {target!r} is asked for, and the tensors are on {next(iter(devices), 'the CPU')}"
    return ""


def _eager(graph: torch.fx.GraphModule, reason: str) -> Callable[..., Any]:
    _say_once(reason)
    return graph.forward


def _say_once(reason: str) -> None:
    if reason not in _said:
        _said.add(reason)
        warnings.warn(f"tamago runs a part of the model in eager PyTorch: {reason}", FallbackWarning, stacklevel=2)


def _weight_positions(graph: torch.fx.GraphModule) -> frozenset[int]:
    """The inputs that come from an nn.Module: its parameters and buffers."""
    import torch

    found: set[int] = set()
    for position, node in enumerate(graph.graph.find_nodes(op="placeholder")):
        source = getattr(node, "_dynamo_source", None)
        value = node.meta.get("example_value")
        if source is None:
            from_module = isinstance(value, torch.nn.Parameter)
        else:
            from_module = (
                source.guard_source.is_unspecialized_nn_module() or source.guard_source.is_specialized_nn_module()
            )
        if from_module and isinstance(value, torch.Tensor):
            found.add(position)
    return frozenset(found)


@dataclass
class _Compiled:
    """A program for the region, and how the region's inputs and results fit it."""

    program: Runnable
    signature: Signature
    inputs: list[tuple[int, str]]


class _Region:
    """One functional graph: compiled at its first call, called with a list that it may empty."""

    _boxed_call = True  # AOTAutograd then passes one list, so that inputs can be freed early

    def __init__(self, graph: torch.fx.GraphModule, weights: frozenset[int], options: dict[str, Any]) -> None:
        self.graph, self.options = graph, options
        freeze = bool(options.pop("freeze", True))
        self.frozen = _frozen_inputs(graph, weights) if freeze else ()
        self.known: list[tuple[torch.Tensor, int, int]] = []
        self.compiled: _Compiled | None = None
        self.unfrozen: _Compiled | None = None
        self.failed = False

    def __call__(self, arguments: list[Any]) -> Sequence[Any]:
        values = list(arguments)
        arguments.clear()
        if self.failed:
            return self.graph.forward(*values)
        try:
            chosen = self._choose(values)
        except Exception as error:
            self.failed = True
            what = error.args[0] if isinstance(error, TamagoError) else f"{type(error).__name__}: {error}"
            _say_once(str(what))
            return self.graph.forward(*values)
        from ..compiler.torch_tensors import to_numpy

        given = {name: values[position] for position, name in chosen.inputs}
        if isinstance(chosen.program, OnDevice):
            return chosen.signature.unflatten(chosen.program.run_by_name(given))
        return chosen.signature.unflatten(chosen.program({name: to_numpy(v) for name, v in given.items()}))

    def _choose(self, values: list[Any]) -> _Compiled:
        if self.compiled is None:
            self.known = [_state(values[position]) for position in self.frozen]
            self.compiled = self._compile(values, self.frozen)
        if all(_same(known, values[position]) for known, position in zip(self.known, self.frozen, strict=True)):
            return self.compiled
        if self.unfrozen is None:
            self.unfrozen = self._compile(values, ())
        return self.unfrozen

    def _compile(self, values: list[Any], frozen: Sequence[int]) -> _Compiled:
        from ..compiler.from_torch.arguments import GraphInput
        from ..compiler.from_torch.aten import trace_aten
        from ..compiler.torch_tensors import to_numpy

        names = [node.name for node in self.graph.graph.find_nodes(op="placeholder")]
        weights = {names[i]: values[i].detach().cpu() for i in frozen}
        # In a thread of its own: torch calls a region with parts of its dispatcher switched off for the thread, and
        # the tracer needs them.
        with ThreadPoolExecutor(1, "tamago") as thread:
            traced = thread.submit(trace_aten, self.graph, weights, OPSET).result()
        assert traced.signature is not None
        free = [i for i in range(len(names)) if i not in frozen]
        slots = zip(free, traced.signature.inputs, strict=True)
        inputs = [(i, slot.name) for i, slot in slots if isinstance(slot, GraphInput)]
        feeds = {name: to_numpy(values[i]) for i, name in inputs}
        return _Compiled(_compile_traced(traced, feeds, self.options), traced.signature, inputs)


def _compile_traced(traced: Traced, feeds: dict[str, Array], options: Mapping[str, Any]) -> Runnable:
    from ..compiler.pipeline import compile_traced

    return compile_traced(traced, feeds, **options).program


def _frozen_inputs(graph: torch.fx.GraphModule, weights: frozenset[int]) -> tuple[int, ...]:
    """The functional graph's inputs that are weights and that the model does not write to."""
    from torch._functorch._aot_autograd.descriptors import InputMutationAOTOutput, PlainAOTInput

    described = graph.graph.output_node().meta.get("desc") or ()
    written = {
        d.mutated_input.idx
        for d in described
        if isinstance(d, InputMutationAOTOutput) and isinstance(d.mutated_input, PlainAOTInput)
    }
    found: list[int] = []
    for position, node in enumerate(graph.graph.find_nodes(op="placeholder")):
        origin = node.meta.get("desc")
        if isinstance(origin, PlainAOTInput) and origin.idx in weights and origin.idx not in written:
            found.append(position)
    return tuple(found)


def _state(tensor: torch.Tensor) -> tuple[torch.Tensor, int, int]:
    """A tensor (held, so that its memory is not given to another), where it lies, and how often it was written."""
    return tensor, tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _same(known: tuple[torch.Tensor, int, int], tensor: torch.Tensor) -> bool:
    _, address, version = known
    return tensor.data_ptr() == address and (0 if tensor.is_inference() else tensor._version) == version


tamago.__name__ = "tamago"
