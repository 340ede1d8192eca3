"""A recurrent layer starts from zeros when it is given no state: exporters make arrays of them, and cut them up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...compiler.facts import Array
from ...compiler.rule import Pattern, Rest, Rule, Skip, Term, Value, op, var
from ..shape.elementwise import declare

x, w, r, b, n, h, v, s, a, i = var("x w r b n h v s a i")
_CUT, _AFTER = Rest("cut"), Rest("after")

_RESULTS = {"LSTM": 3, "GRU": 2, "RNN": 2}
_EXAMPLE: dict[str, Any] = {
    "x": "f32[3,m,4]",
    "w": "f32[1,8,4] const",
    "r": "f32[1,8,2] const",
    "b": "f32[1,16] const",
    "n": None,
    "h": "f32[1,m,2]",
    "v": "f32[] = 0",
    "s": "i64[3] = 1 2 2",
    "cut": ("i64[1] = 0", "i64[1] = 1", "i64[1] = 0"),
    "a": {"hidden_size": 2},
}
_OF = {"LSTM": {}, "GRU": _EXAMPLE | {"w": "f32[1,6,4] const", "r": "f32[1,6,2] const", "b": "f32[1,12] const"}}
_OF["RNN"] = _EXAMPLE | {"w": "f32[1,2,4] const", "r": "f32[1,2,2] const", "b": "f32[1,4] const"}


def _patterns(layer: str, results: int, *before: Any) -> list[Pattern]:
    """A result of the layer given zeros after these inputs: made for it alone, or for several, each of which cuts."""
    made = op.Expand(v, s)
    return [
        _result(op(layer)(*before, zeros, _AFTER, attributes=a, outputs=_stated(results)), i)
        for zeros in (made, op.Slice(made, _CUT))
    ]


def _stated(results: int) -> int | None:
    """A node of which only the first result is read has no number of them."""
    return results if results > 1 else None


def _result(layer: Any, index: Any) -> Any:
    return layer if layer.outputs is None else layer.out(index)


def _are_zeros(array: Array) -> bool:
    return not np.any(array) and not np.any(np.signbit(array))


def _from_zeros(layer: str, results: int, *, cell: bool = False) -> Rule:
    """Of the hidden state, or of an LSTM's cell beside a hidden state that is given."""

    def from_zeros(
        x: Value,
        w: Value,
        r: Value,
        b: Value,
        n: Value,
        h: Value | None,
        v: Value,
        after: tuple[Value, ...],
        a: Mapping[str, Any],
        i: int | None,
    ) -> Term:
        if not v.every(_are_zeros):
            raise Skip("the state is not zero")
        state = (None,) if h is None else (h, None)
        return _result(op(layer)(x, w, r, b, n, *state, *after, outputs=_stated(results), **a), i)

    example = _EXAMPLE | _OF[layer] | {"i": results - 1}
    more = (
        [example | {"h": None}, example | {"after": ("f32[1,6] const",)}] if cell else [example | {"n": "i32[2] = 3"}]
    )
    given = "h, " if cell else ""
    return declare(
        from_zeros,
        f"{layer.lower()}_{results}_from_{'zero_cell' if cell else 'zeros'}",
        f"{layer}(x, w, r, b, lengths, {given}zeros) = {layer}(x, w, r, b, lengths{', h' if cell else ''}).",
        *_patterns(layer, results, x, w, r, b, n, *([h] if cell else [])),
        drift="none",
        phase="canonicalise",
        peers="",
        example=[example, *more],
        refuse=[example | {"v": "f32[] = 1", "because": "not zero"}, example | {"v": "f32[]", "because": "not zero"}],
    )


RULES: tuple[Rule, ...] = (
    *(_from_zeros(layer, results + 1) for layer, most in _RESULTS.items() for results in range(most)),
    *(_from_zeros("LSTM", results + 1, cell=True) for results in range(_RESULTS["LSTM"])),
)
