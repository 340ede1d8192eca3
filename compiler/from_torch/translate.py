"""An exported program -> an `onnx_ir.Model`, by torch's own ONNX translation with the gaps filled.

The steps of `torch.onnx.export(program, dynamo=True)` are taken one by one here, from the same private functions of
torch, because it matters to stand between them: an operator without a translation is found before the work begins
and named with its place, outputs that are no tensors do not stop the translation, and the model's own registry saves
half a second a call. pyproject.toml bounds torch's version for this reason.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

import operator
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ..errors import EXIT_UNSUPPORTED, TamagoError
from .arguments import Constant
from .clean_up import clean_up
from .places import place_of_node
from .quiet import quiet
from .recurrent import recurrent_layers_kept
from .signature import GraphOutput

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

WITH_OPERATORS = ("torchvision", "torch.ao.quantization.fx._decomposed")  # modules that register what torch translates
TORCH_OPSET = 18  # the opset that torch's translations are written for; others are converted from it
COMPOSITES = "_materialize_cpp_cia_ops"  # torch asks C++ by this for its composite operators


@dataclass(frozen=True)
class Translation:
    """A translated program.

    Attributes:
        model: the model, its names and weights still torch's.
        program: the decomposed program it was made from.
        outputs: what stands for each leaf of the program's result.
        written: the buffers and inputs that the program writes to.
    """

    model: ir.Model
    program: ExportedProgram
    outputs: tuple[GraphOutput | Constant, ...]
    written: tuple[str, ...]


def translate(program: ExportedProgram, opset: int) -> Translation:
    """Translate a program, which is left as it was.

    Raises:
        TamagoError: T010 an operator that has no ONNX form, T011 anything else that fails on the way.
    """
    import torch

    # no_grad: torch picks another attention kernel, with another layout, where a mask could need a gradient.
    with quiet(), torch.no_grad(), recurrent_layers_kept():
        registry = _registry(max(opset, TORCH_OPSET))
        decomposed = _prepare(program, registry)
        _check_operators(decomposed, registry)
        signature = decomposed.graph_signature
        buffers = [f"buffer {name}" for name in signature.buffers_to_mutate.values()]
        inputs = [f"input {name}" for name in signature.user_inputs_to_mutate.values()]
        outputs = _keep_each_output_once(decomposed)
        try:
            model = _translate(decomposed, registry, opset)
        except Exception as error:
            raise _explain(error) from error
    return Translation(model, decomposed, outputs, (*buffers, *inputs))


def _prepare(program: ExportedProgram, registry: Any) -> ExportedProgram:
    from torch.onnx._internal.exporter import _fx_passes

    try:
        with _composite_operators_known():
            decomposed = _called_flat(program).run_decompositions(_decompositions(registry))
        _fx_passes.remove_assertion_nodes(decomposed.graph_module)
        for module in _graph_modules(decomposed):
            # What only an assertion asked for need not be translated, and sometimes cannot be: sizes below infinity.
            module.graph.eliminate_dead_code()
            module.recompile()
        _fx_passes.insert_type_promotion_nodes(decomposed.graph_module)
    except Exception as error:
        raise TamagoError(
            "T011",
            "torch cannot decompose the model into the operators that ONNX knows",
            why=" ".join(str(error).split())[:400] or type(error).__name__,
            todo="report it with the model's code; torch.onnx.export(dynamo=True) fails in the same way",
            exit_code=EXIT_UNSUPPORTED,
        ) from error
    return decomposed


@contextmanager
def _composite_operators_known() -> Generator[None]:
    """Ask C++ for its composite operators once: torch does for each namespace there is, twice a decomposition.

    None is registered meanwhile, and asking was a quarter of the time that a small model takes.
    """
    from torch._export import utils

    ask = getattr(utils, COMPOSITES, None)
    if ask is None or ask is _asked_already:  # a version that has none; by another thread, which puts it back
        yield
        return
    ask()
    setattr(utils, COMPOSITES, _asked_already)
    try:
        yield
    finally:
        setattr(utils, COMPOSITES, ask)


def _asked_already() -> None:
    pass


def _called_flat(program: ExportedProgram) -> ExportedProgram:
    """The program with its arguments and results in plain tuples.

    Decomposition calls the program, and so would build the containers it takes and returns, running their code while
    it traces: an empty key-value cache of transformers leaves constants behind that torch then cannot find.
    """
    from torch.export import ExportedProgram, ModuleCallEntry, ModuleCallSignature
    from torch.utils import _pytree as pytree

    call = program.call_spec
    if call.in_spec is None or call.out_spec is None:
        return program
    in_spec = pytree.tree_structure(((0,) * call.in_spec.num_leaves, {}))
    out_spec = pytree.tree_structure((0,) * call.out_spec.num_leaves)
    signature = ModuleCallSignature(inputs=[], outputs=[], in_spec=in_spec, out_spec=out_spec)
    return ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=program.graph_signature,
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=[ModuleCallEntry(fqn="", signature=signature)],
        constants=program.constants,
        verifiers=program.verifiers,
    )


def _decompositions(registry: Any) -> dict[Any, Any]:
    """What torch takes apart for the sake of ONNX: all it can, but for the operators that have a translation."""
    from torch.onnx._internal.exporter import _decomp

    from .decompositions import decompositions, either

    translated = set(_decomp.get_onnx_implemented_overloads(registry))
    table: dict[Any, Any] = _decomp.create_onnx_friendly_decomposition_table(translated)
    return table | {target: either(ours, table.get(target)) for target, ours in decompositions().items()}


def _graph_modules(program: ExportedProgram) -> list[torch.fx.GraphModule]:
    import torch

    return [m for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]


def _registry(opset: int) -> Any:
    """The translations of torch valid at `opset`, and ours; which those are depends on the libraries loaded by now."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    from .translations import WITHDRAWN, translations
    from .translations_complex import complex_translations

    known = _torch_registry(opset, frozenset(name for name in WITH_OPERATORS if name in sys.modules)).functions
    registry = ONNXRegistry()
    registry._opset_version = opset
    registry.functions = {target: list(found) for target, found in known.items()}
    for name in WITHDRAWN:
        registry.functions.pop(name, None)
    for target, function in translations(opset).items():
        registry.register_op(target, function)
    for target, function in complex_translations().items():
        registry.register_op(target, function, is_complex=True)
    return registry


@cache
def _torch_registry(opset: int, loaded: frozenset[str]) -> Any:
    """Torch's translations, of which those of a library's operators are there once it is loaded."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    return ONNXRegistry.from_torchlib(opset_version=opset)


def _check_operators(program: ExportedProgram, registry: Any) -> None:
    """Raise T010 for the first operator that has no ONNX form, with the others listed."""
    from torch.onnx._internal.exporter import _dispatching

    missing: dict[str, tuple[str, str]] = {}
    for module in _graph_modules(program):
        for node in module.graph.nodes:
            if node.op != "call_function" or node.target is operator.getitem or _is_onnx(node.target):
                continue
            function, message = _dispatching.dispatch(node, registry)
            if function is None:
                kind = "complex" if "complex" in message else "real"
                missing.setdefault(_operator_name(node.target), (place_of_node(node), kind))
    if not missing:
        return
    name, (place, kind) = next(iter(missing.items()))
    others = ", ".join(list(missing)[1:])
    raise TamagoError(
        "T010",
        f"the operator {name} cannot be brought over to ONNX",
        where=place,
        why=f"there is no ONNX form of it for {kind} numbers" + (f", nor of {others}" if others else ""),
        todo="write it with other operators, or leave the part of the model that uses it outside",
        exit_code=EXIT_UNSUPPORTED,
    )


def _is_onnx(target: Any) -> bool:
    return getattr(target, "namespace", "") == "onnx"


def _operator_name(target: Any) -> str:
    return str(target) if hasattr(target, "namespace") else getattr(target, "__name__", str(target))


def _keep_each_output_once(program: ExportedProgram) -> tuple[GraphOutput | Constant, ...]:
    """Leave in the graph's result each node once, no constants and no updates; say what stands for each leaf."""
    import torch
    from torch.export.graph_signature import ConstantArgument, OutputKind

    nodes = {node.name: node for node in program.graph.nodes}
    specs = [spec for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    kept = {spec.arg.name: spec for spec in specs if not isinstance(spec.arg, ConstantArgument)}
    numbers = {name: number for number, name in enumerate(kept)}
    program._graph_signature = replace(program.graph_signature, output_specs=list(kept.values()))
    program.graph.output_node().args = (tuple(nodes[name] for name in kept),)

    def leaf(argument: Any) -> GraphOutput | Constant:
        if isinstance(argument, ConstantArgument):
            return Constant(argument.value)
        value, number = nodes[argument.name].meta.get("val"), numbers[argument.name]
        if isinstance(value, torch.Tensor):
            return GraphOutput(number, is_complex=value.is_complex())
        return GraphOutput(number, is_number=True)

    return tuple(leaf(spec.arg) for spec in specs)


def _translate(program: ExportedProgram, registry: Any, opset: int) -> ir.Model:
    from torch.onnx._internal.exporter import _core

    model = _core._exported_program_to_onnx_program(program, registry=registry).model
    try:
        model = _converted(model, opset)
        clean_up(model)
        return model
    except Exception:
        # The clean-up is for convenience, and it has faults of its own: the plain translation means the same.
        plain = _core._exported_program_to_onnx_program(program, registry=registry).model
        return _converted(plain, opset)


def _converted(model: ir.Model, opset: int) -> ir.Model:
    from onnxscript import version_converter

    version_converter.convert_version(model, opset, fallback=True)
    return model


def _explain(error: BaseException) -> TamagoError:
    """T010 when a translation refused an operator, by the node it was at; T011 for the rest."""
    import torch

    cause, node, trace = error, None, error.__traceback__
    while trace is not None:
        found = trace.tb_frame.f_locals.get("node")
        node = found if isinstance(found, torch.fx.Node) else node
        trace = trace.tb_next
    while cause.__cause__ is not None:
        cause = cause.__cause__
    name = f"the operator {_operator_name(node.target)}" if node is not None else "the model"
    return TamagoError(
        "T010" if node is not None else "T011",
        f"{name} cannot be brought over to ONNX",
        where=place_of_node(node) if node is not None else "",
        why=" ".join(str(cause).split())[:400] or type(cause).__name__,
        todo="write it with other operators, or leave the part of the model that uses it outside",
        exit_code=EXIT_UNSUPPORTED,
    )
