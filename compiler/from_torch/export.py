"""A torch module and its arguments -> an `ExportedProgram`, or an error that names the place in the user's code."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import EXIT_UNSUPPORTED, TamagoError
from .places import place_of_error, place_of_node
from .shapes import DynamicShapes, explain_refusal, read_dynamic_shapes, without_ones

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram


@dataclass
class Captured:
    """An exported program with what only the module could tell.

    Attributes:
        program: the program, with torch's own operators.
        shapes: the dynamic dimensions that the user spoke of.
        parameters: the names of what `forward` takes by position.
    """

    program: ExportedProgram
    shapes: DynamicShapes = field(default_factory=DynamicShapes)
    parameters: tuple[str, ...] = ()


def capture(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], dynamic_shapes: Any) -> Captured:
    """Export a module (an FX `GraphModule` is one) in evaluation mode.

    Raises:
        TamagoError: T001 training mode, T003 arguments that do not fit, T020 a branch on data, T021 a dynamic
            dimension that the model fixes, T022 anything else that torch.export refuses, T023 `dynamic_shapes`.
    """
    import torch

    module = getattr(module, "_orig_mod", module)  # what torch.compile wrapped
    if isinstance(module, torch.jit.ScriptModule):
        raise TamagoError(
            "T002", "the model is TorchScript", todo="pass the nn.Module it was made from, or an ONNX file of it"
        )
    check_evaluation_mode(module)
    arguments, args, kwargs, rest = _bind(module, args, kwargs)
    _register_containers((args, kwargs))
    shapes = read_dynamic_shapes(dynamic_shapes, arguments, rest)
    args, kwargs = without_ones(args, kwargs, shapes)
    with _attributes_kept(module), _tracing():
        program = _export(module, args, kwargs, shapes)
    check_program(program)
    return Captured(program, shapes, _positional(module))


def check_program(program: ExportedProgram) -> None:
    """Raise T001 where an exported program holds an operator in training mode."""
    for node in program.graph.nodes:
        if _in_training_mode(node):
            raise TamagoError(
                "T001",
                f"{node.target} runs in training mode",
                where=place_of_node(node),
                why="its result is drawn anew, or its statistics change, with every call",
                todo="call .eval() on the model (in code of your own, pass training=self.training)",
            )


def _in_training_mode(node: torch.fx.Node) -> bool:
    """Whether a node is a dropout that drops, or a batch norm that updates its statistics."""
    name = str(node.target)
    if not name.startswith("aten."):
        return False
    if "dropout" in name:
        return bool(_argument(node, 2, "train") and _argument(node, 1, "p"))
    if name == "aten.rrelu.default":
        return bool(_argument(node, 3, "training"))
    if "batch_norm" in name and "no_stats" not in name and "no_training" not in name and "backward" not in name:
        return bool(_argument(node, 5, "training")) and _argument(node, 3, "running_mean") is not None
    return False


def _argument(node: torch.fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def check_evaluation_mode(module: torch.nn.Module) -> None:
    """Raise T001 where a module, or a part of it that behaves otherwise then, is in training mode."""
    import torch

    # A GraphModule's own flag is whatever its maker left; its parts and its graph (`check_program`) tell.
    named = [(name, m) for name, m in module.named_modules() if name or not isinstance(module, torch.fx.GraphModule)]
    # A part that holds nothing of its own to train (a loss, an activation) behaves the same in both modes.
    training = [name for name, m in named if m.training and (not name or _is_sensitive(m))]
    if not training:
        return
    raise TamagoError(
        "T001",
        "the model is in training mode",
        where=f"module {training[0]}" if training[0] else type(module).__name__,
        why="dropout and batch statistics would make every run different",
        todo="call .eval() on the model first",
    )


def _is_sensitive(module: torch.nn.Module) -> bool:
    from torch.nn.modules import batchnorm, dropout, instancenorm

    kinds = (dropout._DropoutNd, batchnorm._BatchNorm, instancenorm._InstanceNorm)  # pyright: ignore[reportPrivateUsage]
    return isinstance(module, kinds)


def _bind(
    module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[Any, ...], dict[str, Any], str]:
    """Arguments by parameter in `forward`'s order, `(args, kwargs)` in that order too, the name of its `**kwargs`."""
    import numpy as np
    import torch
    from torch.utils import _pytree as pytree

    taken: Any = pytree.tree_map_only(np.ndarray, torch.from_numpy, (tuple(args), dict(kwargs)))
    args, kwargs = taken
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TamagoError(
            "T003",
            "the arguments do not fit the model",
            where=f"{type(module).__name__}.forward{signature}"[:200],
            why=str(error),
            todo="pass args= and kwargs= as you would call the model",
        ) from None
    rest = next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), "")
    order = [name for name in bound if name != rest] + list(bound.get(rest, {}))
    return dict(bound), tuple(args), {name: kwargs[name] for name in order if name in kwargs}, rest


def _positional(module: torch.nn.Module) -> tuple[str, ...]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in inspect.signature(module.forward).parameters.values() if p.kind in kinds)


def _register_containers(tree: Any) -> None:
    """Teach pytree the dataclasses among the arguments, and transformers' caches when that library is loaded."""
    import dataclasses
    import sys

    import torch
    from torch.utils import _pytree as pytree

    if "transformers" in sys.modules:
        from .caches import register_caches

        register_caches()
    for leaf in pytree.tree_leaves(tree):
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            torch.export.register_dataclass(type(leaf))
            _register_containers(leaf)


@contextmanager
def _attributes_kept(module: torch.nn.Module) -> Generator[None]:
    """Undo what `forward` assigned to the modules while it was traced: those values are not real tensors.

    What is in their dictionaries (buffers, hooks, caches of their own) goes back with the attributes: a library that
    notes in an attribute that its hooks are in place would put them there a second time.
    """
    before = [(m, dict(vars(m)), _contents(vars(m))) for m in module.modules()]
    try:
        yield
    finally:
        for m, attributes, contents in before:
            vars(m).clear()
            vars(m).update(attributes)
            for name, held in contents.items():
                attributes[name].clear()
                attributes[name].update(held)


def _contents(attributes: Mapping[str, Any]) -> dict[str, dict[Any, Any]]:
    return {name: dict(value) for name, value in attributes.items() if isinstance(value, dict)}


@contextmanager
def _tracing() -> Generator[None]:
    import torch

    from .quiet import quiet
    from .recurrent import recurrent_layers_kept

    with ExitStack() as stack:
        stack.enter_context(quiet())
        # Nothing asks for gradients here, and torch picks other attention kernels where a mask could need one.
        stack.enter_context(torch.no_grad())
        stack.enter_context(recurrent_layers_kept())
        yield


def _export(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: DynamicShapes
) -> ExportedProgram:
    from torch.export import export

    failures: list[Exception] = []
    # Not strict first: it runs the model's own Python, and so takes more models than tracing bytecode does.
    for strict in (False, True):
        try:
            return export(module, args, kwargs, dynamic_shapes=shapes.for_torch, strict=strict)
        except Exception as error:
            failures.append(error)
            if _unregistered_outputs(error, module, args, kwargs):
                return _export(module, args, kwargs, shapes)
            if (known := _explain(error, module, shapes)) is not None:
                raise known from error
    first = failures[0]
    raise TamagoError(
        "T022",
        "torch.export cannot trace the model",
        where=place_of_error(first, module),
        why=_first_lines(first),
        todo="make torch.export.export(model, args, kwargs) pass; tamago traces what it accepts",
        exit_code=EXIT_UNSUPPORTED,
    ) from first


def _unregistered_outputs(error: Exception, module: torch.nn.Module, args: Any, kwargs: Any) -> bool:
    """Register the dataclasses that the model returns, when that was what torch.export stumbled over."""
    import dataclasses

    import torch
    from torch.utils import _pytree as pytree

    if "pytree" not in str(error):
        return False
    leaves = pytree.tree_leaves(module(*args, **kwargs))
    unknown = {type(leaf) for leaf in leaves if dataclasses.is_dataclass(leaf)}
    for kind in unknown:
        torch.export.register_dataclass(kind)
    return bool(unknown)


def _explain(error: Exception, module: torch.nn.Module, shapes: DynamicShapes) -> TamagoError | None:
    """The coded error for a refusal that is understood."""
    from torch._subclasses.fake_tensor import DataDependentOutputException
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    message = str(error)
    if "Constraints violated" in message or "Suggested fixes" in message:
        return explain_refusal(message, shapes)
    if "dynamic_shapes" in message:
        return TamagoError("T023", "dynamic_shapes does not fit the arguments", why=_first_lines(error))
    if isinstance(error, (GuardOnDataDependentSymNode, DataDependentOutputException)) or "data-dependent" in message:
        return TamagoError(
            "T020",
            "the model branches on the values of a tensor",
            where=place_of_error(error, module),
            why=_first_lines(error),
            todo="compute both sides and choose with torch.where, use torch.cond, or compile the parts around it",
            exit_code=EXIT_UNSUPPORTED,
        )
    return None


def _first_lines(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:400] or type(error).__name__
