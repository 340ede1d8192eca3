"""Dynamic dimensions: what the user calls them, what torch.export is told, and what its refusals mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import TamagoError

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram


@dataclass(frozen=True)
class Dimension:
    """One dimension that the user spoke of: `spec` is a name, a `Dim`, a hint such as `Dim.AUTO`, or a size."""

    leaf: int
    tensor: str
    axis: int
    spec: Any

    @property
    def name(self) -> str:
        """The user's name for it, or ""."""
        return self.spec if isinstance(self.spec, str) else str(getattr(self.spec, "__name__", ""))

    @property
    def place(self) -> str:
        """The dimension as a message says it."""
        return f"dimension {self.axis} of {self.tensor}" + (f", named {self.name!r}" if self.name else "")


@dataclass
class DynamicShapes:
    """The user's dynamic dimensions: in torch.export's form, and one by one."""

    for_torch: dict[str, Any] | None = None
    dimensions: list[Dimension] = field(default_factory=list[Dimension])


def read_dynamic_shapes(given: Any, arguments: Mapping[str, Any], rest: str = "") -> DynamicShapes:
    """Match `dynamic_shapes` with the arguments.

    Args:
        given: as torch.export takes it (by argument or in their order; for each tensor `{dimension: Dim, hint or
            None}`), where a plain string also names a dimension and a dict may leave arguments out.
        arguments: the bound arguments in the order of the model's parameters.
        rest: the name of the `**kwargs` parameter; what it took may be spoken of as if it were a parameter.

    Raises:
        TamagoError: T023, it names no argument, or its nesting does not fit.
    """
    if given is None:
        return DynamicShapes()
    if not isinstance(given, (Mapping, tuple, list)):
        raise TamagoError("T023", f"dynamic_shapes is a {type(given).__name__}", todo="pass a dict by argument")
    specs = dict(given) if isinstance(given, Mapping) else dict(zip(arguments, given, strict=False))
    if rest in arguments and rest not in specs:
        specs[rest] = {name: specs.pop(name, None) for name in arguments[rest]}
    unknown = [str(name) for name in specs if name not in arguments]
    if unknown:
        raise TamagoError(
            "T023",
            "dynamic_shapes names an argument that is not passed",
            where=", ".join(unknown),
            todo=f"name the arguments that are passed: {', '.join(arguments)}",
        )
    reader = _Reader()
    for_torch = {name: reader.argument(name, value, specs.get(name)) for name, value in arguments.items()}
    return DynamicShapes(for_torch, reader.dimensions)


@dataclass
class _Reader:
    """Goes through the arguments' leaves in torch's order, taking down each dimension spoken of."""

    leaves: int = 0
    dimensions: list[Dimension] = field(default_factory=list[Dimension])

    def argument(self, name: str, value: Any, spec: Any) -> Any:
        """The spec of one argument in the nesting of its value, strings turned to `Dim.DYNAMIC`."""
        from torch.export.dynamic_shapes import _tree_map_with_path  # pyright: ignore[reportPrivateUsage]
        from torch.utils import _pytree as pytree

        if spec is None:
            spec = _tree_map_with_path(lambda path, leaf: None, value)
        try:
            return _tree_map_with_path(
                lambda path, leaf, axes: self.tensor(name + pytree.keystr(path), axes), value, spec, tree_name=name
            )
        except TamagoError:
            raise
        except Exception as error:
            raise TamagoError(
                "T023",
                "dynamic_shapes is nested otherwise than the argument",
                where=name,
                why=str(error).strip().splitlines()[0],
                todo="give each tensor in it its {dimension: name}, in the argument's own nesting, or None",
            ) from None

    def tensor(self, place: str, axes: Any) -> Any:
        """The spec of one tensor."""
        from torch.export import Dim

        leaf, self.leaves = self.leaves, self.leaves + 1
        if axes is None or isinstance(axes, (int, str)) or not isinstance(axes, (Mapping, tuple, list)):
            return axes
        pairs = list(axes.items() if isinstance(axes, Mapping) else enumerate(axes))
        self.dimensions += [Dimension(leaf, place, axis, spec) for axis, spec in pairs if spec is not None]
        return {axis: Dim.DYNAMIC if isinstance(spec, str) else spec for axis, spec in pairs}


def without_ones(
    args: tuple[Any, ...], kwargs: dict[str, Any], shapes: DynamicShapes
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example arguments with 2 in the place of 1 (or 0), wherever a size is to vary.

    A dimension of size 1 broadcasts, so torch takes a 1 in the example for a promise that it stays 1.
    """
    import torch
    from torch.utils import _pytree as pytree

    leaves, spec = pytree.tree_flatten((args, kwargs))
    for dim in shapes.dimensions:
        tensor = leaves[dim.leaf]
        _require_axis(dim, tensor)
        varies = bool(dim.name) or _hint(dim.spec) == "DYNAMIC"
        if not varies or not isinstance(tensor, torch.Tensor) or tensor.shape[dim.axis] > 1:
            continue
        shape = list(tensor.shape)
        shape[dim.axis] = 2
        once = tensor.shape[dim.axis] == 1
        leaves[dim.leaf] = torch.cat([tensor, tensor], dim.axis) if once else tensor.new_zeros(shape)
    return pytree.tree_unflatten(leaves, spec)


def _require_axis(dim: Dimension, given: Any) -> None:
    """Raise T023 where an array has no such dimension."""
    rank = getattr(given, "ndim", None)
    axis: Any = dim.axis
    if rank is None or (isinstance(axis, int) and -rank <= axis < rank):
        return
    raise TamagoError(
        "T023",
        f"dynamic_shapes names dimension {axis!r} of what has {rank}",
        where=dim.place,
        todo=f"number its dimensions from 0 to {rank - 1}" if rank else "leave it out: it has no dimension",
    )


def dimension_names(
    program: ExportedProgram, decomposed: ExportedProgram, shapes: DynamicShapes
) -> tuple[dict[str, str], list[str]]:
    """Names for torch's symbols (`s77`), and notes on dimensions that did not become what the user said.

    A symbol takes the user's name; without one, `input_dim0` after the first place it is met.

    Args:
        program: the program, with the names of its inputs.
        decomposed: the same one decomposed, with the sizes as they are after it.
        shapes: what the user said.

    Raises:
        TamagoError: T021, a dimension that the user named has one size only.
    """
    import torch

    inputs = [node.meta.get("val") for node in _user_inputs(decomposed)]
    names: dict[str, str] = {}
    notes: list[str] = []
    for dim in shapes.dimensions:
        value = inputs[dim.leaf] if dim.leaf < len(inputs) else None
        if not isinstance(value, torch.Tensor) or isinstance(dim.spec, int) or _hint(dim.spec) == "STATIC":
            continue
        size = size_of(value.shape[dim.axis])
        if isinstance(size, int) and dim.name:
            raise _one_size_only({dim.place: str(size)})
        if isinstance(size, int):
            told = size in (0, 1) and _hint(dim.spec) == "AUTO"  # which torch takes for sizes that never change
            why = "the example has it, give one of 2 or more" if told else "the model holds for that size only"
            notes.append(f"{dim.place} is fixed at {size}: {why}")
        elif dim.name and names.setdefault(size, dim.name) != dim.name:
            notes.append(f"{dim.place} must equal {names[size]!r} in this model")
    for node, value in zip(_user_inputs(program), inputs, strict=True):
        for axis, size in enumerate(value.shape if isinstance(value, torch.Tensor) else ()):
            symbol = size_of(size)
            if isinstance(symbol, str) and symbol.isidentifier():
                names.setdefault(symbol, f"{node.name}_dim{axis}")
    return names, notes


def size_of(size: int | torch.SymInt) -> int | str:
    """A size as a number, or as the text of torch's expression for it (`s77`, `2*s77`)."""
    text = str(size)
    return int(text) if text.isdigit() else text


def _hint(spec: Any) -> str:
    """AUTO, STATIC or DYNAMIC where the spec is torch's hint of that name."""
    return str(getattr(getattr(spec, "type", None), "name", ""))


def _user_inputs(program: ExportedProgram) -> list[Any]:
    """Placeholder nodes of the arguments, one for each leaf."""
    from torch.export.graph_signature import InputKind

    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    specs = program.graph_signature.input_specs
    return [nodes[spec.arg.name] for spec in specs if spec.kind == InputKind.USER_INPUT]


_SIZE = re.compile(r"L\['(?P<name>\w+)'\](?P<path>[^\s=]*?)\.size\(\)\[(?P<axis>\d+)\]")
_FIXED = re.compile(
    r"You marked (?P<dim>.+?) as dynamic but your code specialized it to be a constant \((?P<size>\d+)\)"
)
_FIX = re.compile(r"^\s*(?P<dim>\w+) = (?P<fix>.+)$", re.MULTILINE)


def _reasons(message: str) -> list[str]:
    return [line.strip(" -") for line in message.splitlines() if line.strip().startswith("- ")]


def explain_refusal(message: str, shapes: DynamicShapes) -> TamagoError:
    """T021 from torch.export's "Constraints violated": which dimension, why, and what to do about it."""
    fixed = {_place(match["dim"], shapes): match["size"] for match in _FIXED.finditer(message)}
    fixes = {match["dim"]: match["fix"] for match in _FIX.finditer(message.partition("Suggested fixes:")[2])}
    for dim, fix in fixes.items():
        if fix.isdigit():
            fixed.setdefault(_place(dim, shapes), fix)
    if fixed:
        return _one_size_only(fixed)
    reasons = _reasons(message)
    advice = "; ".join(f"declare {_place(dim, shapes)} as {fix}" for dim, fix in fixes.items())
    return TamagoError(
        "T021",
        "the model does not hold for every size of a dimension declared dynamic",
        where="; ".join(_place(dim, shapes) for dim in fixes),
        why=" ".join(_readable(reason) for reason in reasons) or message.strip().splitlines()[0],
        todo=advice or "use torch.export.Dim.AUTO for the dimension, which takes what the model allows",
    )


def _one_size_only(fixed: Mapping[str, str]) -> TamagoError:
    """T021 for dimensions, by place, with the sizes that the model's code makes them."""
    return TamagoError(
        "T021",
        "the model works for one size only of a dimension declared dynamic",
        where="; ".join(fixed),
        why="; ".join(f"the model's code makes {place} the constant {size}" for place, size in fixed.items()),
        todo="leave the dimension out of dynamic_shapes (it stays fixed), or take the constant out of the model",
    )


def _place(dim: str, shapes: DynamicShapes) -> str:
    """A dimension, by torch's name for it, as the user knows it."""
    match = _SIZE.fullmatch(dim)
    for known in shapes.dimensions:
        if match and known.tensor == match["name"] + match["path"] and known.axis == int(match["axis"]):
            return known.place
        if known.name == dim:
            return known.place
    return f"dimension {match['axis']} of {match['name']}{match['path']}" if match else repr(dim)


def _readable(reason: str) -> str:
    return _SIZE.sub(lambda m: f"{m['name']}{m['path']}.shape[{m['axis']}]", reason)
