"""How a torch model's nested arguments become named graph inputs, and graph outputs its nested result again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import TamagoError
from ..facts import Array
from ..torch_tensors import numpy_dtype, to_torch
from .arguments import Constant, GraphInput, arrange, check_array, check_constant, outline, owners
from .branches import Branch, branches_of, check_branches
from .shapes import size_of

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.utils._pytree import TreeSpec


@dataclass(frozen=True)
class GraphOutput:
    """A part of the result that the graph computes: which of its outputs, and whether torch shows it otherwise."""

    index: int
    is_number: bool = False
    is_complex: bool = False


@dataclass(frozen=True)
class Signature:
    """The call of a traced torch model.

    Attributes:
        in_spec: the nesting of `(args, kwargs)` as traced.
        out_spec: the nesting of the result.
        inputs: one entry for each leaf of `in_spec`.
        outputs: one entry for each leaf of `out_spec`; two may show the same output of the graph.
        parameters: the names of what `forward` takes by position, in its order, as far as they are known.
        branches: the sizes that the program is for.
    """

    in_spec: TreeSpec
    out_spec: TreeSpec
    inputs: tuple[GraphInput | Constant, ...]
    outputs: tuple[GraphOutput | Constant, ...]
    parameters: tuple[str, ...]
    branches: tuple[Branch, ...] = ()

    def flatten(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """Arguments as the model takes them -> graph input name -> array; see `feeds`."""
        return self.feeds(args, kwargs)

    def feeds(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *, keep_tensors: bool = False
    ) -> dict[str, Any]:
        """Arguments as the model takes them -> graph input name -> array, or torch's own tensor where they are kept.

        Torch tensors, NumPy arrays and Python numbers are taken; an argument may be given by position or by name,
        however it was given at tracing.

        Raises:
            TamagoError: T030 other arguments or nesting, T031 another dtype or shape, or one that the program is not
                for, T032 another constant.
        """
        from torch.utils import _pytree as pytree

        leaves, spec = pytree.tree_flatten(arrange(args, kwargs or {}, self.in_spec, self.parameters))
        if spec != self.in_spec:
            raise TamagoError(
                "T030",
                "the arguments are nested otherwise than the traced ones",
                why=f"given {outline(spec)}, traced with {outline(self.in_spec)}",
                todo="pass arguments of the same structure, or compile the model again with these",
            )
        feeds: dict[str, Any] = {}
        sizes: dict[str, tuple[int, str]] = {}
        places = owners(self.in_spec, self.parameters)
        for expected, leaf, place in zip(self.inputs, leaves, places, strict=True):
            if isinstance(expected, Constant):
                check_constant(expected, leaf, place)
            else:
                feeds[expected.name] = check_array(expected, leaf, place, sizes, keep_tensors=keep_tensors)
        if self.branches:
            known = {name: size for name, (size, _) in sizes.items()}
            numbers = {i.number: int(feeds[i.name]) for i in self.inputs if isinstance(i, GraphInput) and i.number}
            check_branches(self.branches, known | numbers)
        return feeds

    def unflatten(self, arrays: Sequence[Any]) -> Any:
        """The graph's outputs, in its order, arrays or tensors -> tensors in the structure that the model returns."""
        from torch.utils import _pytree as pytree

        tensors: dict[GraphOutput, Any] = {}
        leaves: list[Any] = []
        for slot in self.outputs:
            if isinstance(slot, Constant):
                leaves.append(slot.value)
            else:
                # What the model returns twice is one tensor twice.
                tensors.setdefault(slot, _leaf(slot, arrays[slot.index]))
                leaves.append(tensors[slot])
        return pytree.tree_unflatten(leaves, self.out_spec)


def signature_of(
    program: ExportedProgram,
    outputs: Sequence[GraphOutput | Constant],
    dims: Mapping[str, str],
    parameters: Sequence[str] = (),
    limits: Sequence[Branch] = (),
) -> Signature:
    """Read the signature off an exported program.

    Args:
        program: the exported program.
        outputs: what stands for each leaf of its result.
        dims: torch's symbol for a dynamic size -> its name in the graph.
        parameters: the names of what `forward` takes by position; found in the program when not given.
        limits: what the caller declared of the sizes.

    Raises:
        TamagoError: T022, the program does not say how it is called.
    """
    from torch.export.graph_signature import ConstantArgument, InputKind

    call, top = program.call_spec, program.module_call_graph[0].signature
    if call.in_spec is None or call.out_spec is None:
        raise TamagoError("T022", "the exported program does not say how it is called", todo="export the model again")
    metas = {node.name: node.meta.get("val") for node in program.graph.find_nodes(op="placeholder")}
    given = [s.arg for s in program.graph_signature.input_specs if s.kind == InputKind.USER_INPUT]
    inputs = [
        Constant(a.value) if isinstance(a, ConstantArgument) else _graph_input(a.name, metas[a.name], dims)
        for a in given
    ]
    known = (top.forward_arg_names or ()) if top is not None else ()
    names = parameters or known[: call.in_spec.child(0).num_children]
    arrays = [i for i in inputs if isinstance(i, GraphInput)]
    sized = {size for i in arrays for size in i.shape if isinstance(size, str)}
    asked = {symbol: name for symbol, name in dims.items() if name in sized}
    asked |= {str(metas[i.name]): i.number for i in arrays if i.number}
    branches = (*(limit for limit in limits if sized.issuperset(limit.names)), *branches_of(program, asked))
    return Signature(call.in_spec, call.out_spec, tuple(inputs), tuple(outputs), tuple(names), branches)


def _graph_input(name: str, value: Any, dims: Mapping[str, str]) -> GraphInput:
    import torch

    if isinstance(value, torch.Tensor):
        parts = (2,) if value.is_complex() else ()
        return GraphInput(name, numpy_dtype(value.dtype), (*(_size(size, dims) for size in value.shape), *parts))
    if isinstance(value, torch.SymFloat):
        return GraphInput(name, np.dtype(np.float32), ())
    if isinstance(value, torch.SymBool):
        return GraphInput(name, np.dtype(np.bool_), ())
    return GraphInput(name, np.dtype(np.int64), (), f"int({name})")


def _size(size: int | torch.SymInt, dims: Mapping[str, str]) -> int | str:
    known = size_of(size)
    return known if isinstance(known, int) else dims.get(known, known)


def _leaf(slot: GraphOutput, array: Any) -> Any:
    import torch

    if slot.is_number:
        return array.item()
    tensor = array if isinstance(array, torch.Tensor) else to_torch(np.asarray(array))
    return torch.view_as_complex(tensor) if slot.is_complex else tensor
