"""Arguments of a call against the arguments a model was traced with: put in the traced order, then checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import TamagoError
from ..torch_tensors import numpy_dtype, to_numpy

if TYPE_CHECKING:
    from torch.utils._pytree import TreeSpec


@dataclass(frozen=True)
class GraphInput:
    """An argument that the graph takes: its name, NumPy dtype and shape (a dynamic dimension by its name).

    Attributes:
        number: the name of the value of a Python integer, told apart from a dimension of the same name.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    number: str = ""


@dataclass(frozen=True)
class Constant:
    """An argument or a part of the result that was no tensor when the model was traced: None, a number, a string."""

    value: Any


def arrange(
    args: Sequence[Any], kwargs: Mapping[str, Any], in_spec: TreeSpec, parameters: Sequence[str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments with those by position and those by name where tracing had them.

    Args:
        args: arguments by position.
        kwargs: arguments by name.
        in_spec: the nesting of the traced `(args, kwargs)`.
        parameters: names of the parameters that `forward` takes by position, in its order.

    Raises:
        TamagoError: T030, an argument is missing or was not there at tracing.
    """
    positions, by_name = in_spec.child(0).num_children, list[str](in_spec.child(1).context or [])
    if (len(args) == positions and list(kwargs) == by_name) or len(parameters) < max(positions, len(args)):
        return tuple(args), dict(kwargs)
    traced = [*parameters[:positions], *by_name]
    given = dict(zip(parameters, args, strict=False)) | dict(kwargs)
    # What was not traced is harmless as None: `forward` had its default, and None asks for it.
    extra = [name for name, value in given.items() if name not in traced and value is not None]
    missing = [name for name in traced if name not in given]
    if not extra and not missing:
        return tuple(given[name] for name in traced[:positions]), {name: given[name] for name in by_name}
    raise TamagoError(
        "T030",
        "an argument that the model was not traced with" if extra else "an argument is missing",
        where=", ".join(extra or missing),
        why=f"the model was traced with {', '.join(traced)}",
        todo="pass the same arguments, or compile the model again with these",
    )


def owners(in_spec: TreeSpec, parameters: Sequence[str]) -> list[str]:
    """For each leaf of the traced `(args, kwargs)`, the name of the argument it belongs to."""
    positional, named = in_spec.child(0), in_spec.child(1)
    names = [parameters[i] if i < len(parameters) else f"argument {i}" for i in range(positional.num_children)]
    names += [str(name) for name in named.context or []]
    children = [*positional.children(), *named.children()]
    return [name for name, child in zip(names, children, strict=True) for _ in range(child.num_leaves)]


def check_constant(expected: Constant, leaf: Any, place: str) -> None:
    """Raise T032 unless `leaf` is the value that tracing fixed."""
    if type(leaf) is type(expected.value) and leaf == expected.value:
        return
    raise TamagoError(
        "T032",
        f"the argument is {_brief(leaf)}, the model was traced with {_brief(expected.value)}",
        where=place,
        why="arguments that are not tensors are fixed when the model is traced",
        todo="pass the same value, or compile again with this one",
    )


def check_array(
    expected: GraphInput, leaf: Any, place: str, sizes: dict[str, tuple[int, str]], *, keep_tensors: bool = False
) -> Any:
    """`leaf` as an array, or itself where tensors are kept; T031 unless it has the traced dtype and shape.

    Args:
        expected: what the graph takes.
        leaf: a torch tensor, an array or a number.
        place: the argument's name, for the message.
        sizes: for each dynamic dimension met so far, its size and where it was met; updated.
        keep_tensors: a torch tensor is checked and handed on by reference.
    """
    array, dtype = _array(leaf, place, keep_tensors=keep_tensors)
    if dtype != expected.dtype:
        raise TamagoError(
            "T031",
            f"the argument has dtype {dtype}, the model was traced with {expected.dtype}",
            where=place,
            todo=f"convert it to {expected.dtype}, or compile again",
        )
    fits = len(array.shape) == len(expected.shape)
    pairs = zip(array.shape, expected.shape, strict=False)
    fits &= all(size == traced or isinstance(traced, str) for size, traced in pairs)
    if not fits:
        raise TamagoError(
            "T031",
            f"the argument has shape {list(array.shape)}, the model was traced with {list(expected.shape)}",
            where=place,
            todo="pass that shape, or compile with dynamic_shapes= naming the dimensions that vary",
        )
    for axis, (size, traced) in enumerate(zip(array.shape, expected.shape, strict=True)):
        known, first = sizes.setdefault(str(traced), (size, f"dimension {axis} of {place}"))
        if known != size:
            raise TamagoError(
                "T031",
                f"dimension {axis} is {size}, but {first}, which must equal it, is {known}",
                where=place,
                why=f"the model was traced with one size, `{traced}`, for both",
            )
    return array


def _array(leaf: Any, place: str, *, keep_tensors: bool) -> tuple[Any, Any]:
    import torch

    if keep_tensors and isinstance(leaf, torch.Tensor) and not leaf.is_complex():
        return leaf, numpy_dtype(leaf.dtype)
    try:
        array = to_numpy(leaf)
    except TypeError as error:
        raise TamagoError("T031", "the argument is no tensor", where=place, why=str(error), todo="pass one") from None
    return array, array.dtype


def outline(spec: TreeSpec) -> str:
    """A structure in one line, leaves as `*`."""
    if spec.is_leaf():
        return "*"
    children = [outline(child) for child in spec.children()]
    if spec.type is dict:
        return "{" + ", ".join(f"{k}: {c}" for k, c in zip(spec.context, children, strict=True)) + "}"
    inside = ", ".join(children)
    return f"({inside})" if spec.type is tuple else f"{getattr(spec.type, '__name__', spec.type)}({inside})"


def _brief(value: Any) -> str:
    text = repr(value) if isinstance(value, (int, float, str, type(None))) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
