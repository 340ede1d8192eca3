"""The sizes that a program is for: as the caller declared them, and with one answer wherever the model's code asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import TamagoError
from .places import is_machinery

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from .shapes import Dimension


@dataclass(frozen=True)
class Branch:
    """A condition on sizes, one way of which was traced.

    Attributes:
        condition: as torch's symbolic expression over `names`.
        names: the dynamic dimensions and numbers in it.
        reason: where it is from.
    """

    condition: Any
    names: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        from torch.utils._sympy.printers import PythonPrinter

        return f"{PythonPrinter().doprint(self.condition)} ({self.reason})"


def limits_of(dimensions: Sequence[Dimension]) -> tuple[Branch, ...]:
    """What the caller declared of the sizes of named dimensions: torch answers by it what the model's code asks."""
    import sympy
    from torch.utils._sympy.numbers import int_oo

    found: list[Branch] = []
    for dim in dimensions:
        low, high = getattr(dim.spec, "min", None), getattr(dim.spec, "max", None)
        if not dim.name.isidentifier() or low is None or high is None:
            continue
        size = sympy.Symbol(dim.name, integer=True)
        limits = ([size >= low] if low else []) + ([size <= high] if high != int_oo else [])
        found += [Branch(limit, (dim.name,), "as dynamic_shapes says") for limit in limits]
    return tuple(dict.fromkeys(found))


def branches_of(program: ExportedProgram, names: Mapping[str, str]) -> tuple[Branch, ...]:
    """The conditions on which the model's own code branched.

    What torch itself asks (whether a tensor is contiguous, a size divides another) is left out: where the answer is
    another, its operators still compute the same, or refuse to.

    Args:
        program: as it was exported.
        names: torch's symbol for a size or a number of the arguments -> its name.
    """
    import sympy

    found: dict[str, Branch] = {}
    environment = next(_environments(program), None)
    if environment is None:
        return ()
    for guard in environment.guards:
        place = _place(guard.sloc.framework_loc)
        condition = environment.replace(guard.expr)
        symbols = {s: names.get(str(s), "") for s in condition.free_symbols}
        if not place or not symbols or not all(symbols.values()):
            continue
        renamed = condition.xreplace({s: sympy.Symbol(name, integer=True) for s, name in symbols.items()})
        branch = Branch(renamed, tuple(sorted(symbols.values())), f"{place} branches on it")
        found.setdefault(str(branch), branch)
    return tuple(found.values())


def check_branches(branches: Sequence[Branch], sizes: Mapping[str, int]) -> None:
    """Raise T031 where sizes are none that the model was traced for."""
    for branch in branches:
        given = tuple(sizes[name] for name in branch.names)
        if _holds(branch, given):
            continue
        raise TamagoError(
            "T031",
            "the program is not for these sizes",
            where=", ".join(f"{name} = {size}" for name, size in zip(branch.names, given, strict=True)),
            why=f"the model was traced for {branch}",
            todo="pass sizes for which that holds, or compile once more with an example of these",
        )


@lru_cache(maxsize=4096)
def _holds(branch: Branch, sizes: tuple[int, ...]) -> bool:
    import sympy

    values = dict(zip(branch.names, sizes, strict=True))
    numbers = {s: sympy.Integer(values[s.name]) for s in branch.condition.free_symbols}
    try:
        return bool(branch.condition.xreplace(numbers))
    except (ArithmeticError, TypeError):  # a division by zero has no answer, nor would the model's code get one
        return False


def _environments(program: ExportedProgram) -> Iterator[Any]:
    """Where torch keeps what it knows of symbolic sizes: one for a whole program, met at each of them."""
    import torch

    for node in program.graph.find_nodes(op="placeholder"):
        value = node.meta.get("val")
        for size in value.shape if isinstance(value, torch.Tensor) else (value,):
            if isinstance(size, (torch.SymInt, torch.SymFloat, torch.SymBool)):
                yield size.node.shape_env


def _place(frame: Any) -> str:
    """`file:line in function` of a frame of the model's own code; "" for another."""
    file = getattr(frame, "filename", "")
    return "" if not file or is_machinery(file) else f"{file}:{frame.lineno} in {frame.name}"
