"""One operator's outputs, remembered: the same question is asked for every layer, and again for every rewrite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..facts import Constant, Contradiction, Fact
from ..opset import OLDEST, TARGET
from . import attention, convolution, elementwise, layout, microsoft, products, reduction, sources, spectral, tamago
from .call import UNKNOWN, Call, Known, Number, Operand, Rule
from .onnx_rules import ask_onnx

LARGEST = 64  # entries of an operand whose contents decide a shape
_MEMO_SIZE = 100_000

_RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **layout.RULES,
    **reduction.RULES,
    **sources.RULES,
    **products.RULES,
    **convolution.RULES,
    **spectral.RULES,
    **attention.RULES,
    **microsoft.RULES,
    **tamago.RULES,
}

# Operands whose contents, not only shapes, decide the outputs' shapes.
READS: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    **{op: (1,) for op in reduction.RULES if op.startswith("Reduce")},
}

_memo: dict[tuple[Any, ...], list[Known]] = {}


def infer_node(
    op: str, attributes: Mapping[str, Any], facts: Sequence[Fact | None], version: int = TARGET, outputs: int = 1
) -> list[Fact]:
    """What is known of each output of one operator.

    Args:
        op: with its domain before `::`; `Name@12` is read at opset 12.
        attributes: stated attributes as Python values.
        facts: of each input, None for one left out. Constant contents are read where they decide a shape.
        version: opset of the default domain.
        outputs: how many outputs are wanted.

    Raises:
        Contradiction: no tensors of these shapes and dtypes can be the operator's inputs.
    """
    name, _, marked = op.partition("@")
    reads = READS.get(name, ())
    operands = tuple(_operand(fact, i in reads) for i, fact in enumerate(facts))
    found = infer_call(name, attributes, operands, int(marked) if marked else version, outputs)
    return [Fact(dtype, shape) for dtype, shape in found]


def infer_call(
    op: str, attributes: Mapping[str, Any], operands: tuple[Operand | None, ...], version: int, outputs: int
) -> list[Known]:
    """The same for operands; the answer is remembered and must not be changed."""
    key = (op, version, outputs, _key(attributes), operands)
    known = _memo.get(key)
    if known is not None:
        return known
    call = Call(op, attributes, operands, outputs, version)
    standard = "::" not in op  # the versions of other domains are their own
    rule = ask_onnx if standard and version < OLDEST else _RULES.get(op, ask_onnx)
    try:
        known = rule(call)[:outputs]
    except (KeyError, ValueError, TypeError, IndexError, ArithmeticError, AttributeError) as error:
        raise Contradiction(f"{op} cannot be applied: {type(error).__name__} {error}") from error
    known = [*known, *[UNKNOWN] * (outputs - len(known))]
    if len(_memo) >= _MEMO_SIZE:
        _memo.clear()
    _memo[key] = known
    return known


def has_rule(op: str) -> bool:
    """Whether the operator's shapes are known here, without asking onnx."""
    return op in _RULES


def _operand(fact: Fact | None, wanted: bool) -> Operand | None:
    if fact is None:
        return None
    data = entries(fact.constant) if wanted and fact.constant is not None and _small(fact) else None
    return Operand(fact.dtype, fact.shape, data)


def _small(fact: Fact) -> bool:
    size = fact.size
    return size is not None and size <= LARGEST


def entries(constant: Constant) -> tuple[Number, ...] | None:
    """The entries of a small constant, None where a block's instances differ in them."""
    first = constant.array(0)
    if any(not np.array_equal(first, constant.array(i)) for i in range(1, len(constant))):
        return None
    return numbers_of(first)


def numbers_of(array: np.ndarray[Any, Any]) -> tuple[Number, ...] | None:
    """A small array's entries; None for strings, booleans and complex numbers."""
    return tuple(array.reshape(-1).tolist()) if array.dtype.kind in "iuf" else None


def _key(attributes: Mapping[str, Any]) -> Any:
    if not attributes:
        return ()
    return tuple((name, _hashable(attributes[name])) for name in sorted(attributes))


def _hashable(value: Any) -> Any:
    if isinstance(value, (int, float, str, bytes)):
        return value
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    return tuple(map(_hashable, value)) if isinstance(value, (tuple, list)) else repr(value)
