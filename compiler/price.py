"""What a term costs on the target, in milliseconds: measured where it has been measured, a roofline estimate elsewhere.

A price's key names everything it depends on: operator, attributes, each operand's dtype, shape and constness, target,
device, threads and library versions. Measured prices live in the store and are shared by all models of a user.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import prod
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from .egraph import ABSENT, OUTPUTS, EGraph, Row
from .encode import UNIQUE
from .facts import Fact, item_bytes
from .hidden_scores import hides
from .pointwise import COMMUTATIVE, POINTWISE
from .sizes import Sizes, bound

KEY_VERSION = 2

# One core of a current server CPU, deliberately a little optimistic: an estimate that is too cheap gets measured,
# one that is too dear is never looked at.
FLOPS = 250e9 / 1e3  # per millisecond
BYTES = 100e9 / 1e3  # within a cache
DISPATCH = 0.0004  # milliseconds a node costs before it does anything
TRANSCENDENTAL = 3e-7  # milliseconds an element

VIEWS = frozenset(["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"])
CHEAP = frozenset(["Shape", "Size", "out"])
SLOW_ELEMENTWISE = frozenset(
    [
        "Erf",
        "Exp",
        "Log",
        "Tanh",
        "Sigmoid",
        "Softmax",
        "Gelu",
        "Softplus",
        "Sin",
        "Cos",
        "Pow",
        "Elu",
        "Selu",
        "Celu",
        "Mish",
        "HardSwish",
        "LogSoftmax",
    ]
)
DEFAULT_DIM = 128  # a dimension that is not known


class Stored(Protocol):
    """The part of the store that prices need."""

    def price(self, key: str) -> Any:
        """The measured price under a key, None where there is none."""
        ...

    def verdict(self, key: str) -> Mapping[str, Any] | None:
        """What was decided under a key, None where nothing was."""
        ...

    def put_verdict(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a decision."""
        ...

    def put_price(self, key: str, milliseconds: float, spread: float, samples: int, meta: Mapping[str, Any]) -> None:
        """Keep a measured price."""
        ...


@dataclass(frozen=True)
class Site:
    """One term with the facts of its operands: what a price is asked for."""

    op: str
    attributes: tuple[tuple[str, Any], ...]
    operands: tuple[Fact | None, ...]
    result: Fact
    outputs: int = 1

    @property
    def constants(self) -> tuple[bool, ...]:
        """Whether each operand is a constant."""
        return tuple(f is not None and f.constant is not None for f in self.operands)


def site_of(egraph: EGraph, uid: int, row: Row) -> Site:
    """The site of a row in its e-graph."""
    attributes = {k: v for k, v in egraph.attributes[row.attributes].items() if k not in (OUTPUTS, UNIQUE)}
    operands = tuple(None if c == ABSENT else egraph.fact(c) for c in row.children)
    outputs = egraph.attributes[row.attributes].get(OUTPUTS, 1)
    return Site(row.op, tuple(sorted(attributes.items())), operands, egraph.fact(uid), outputs)


# Numbers that an operator computes with but that do not change how long it takes. Measured apart, noise would make an
# operator that takes a factor in look dearer than the same operator and a Mul.
TIMELESS = frozenset(["epsilon", "scale"])


def key_of(site: Site, environment: str) -> str:
    """The price's name in the store. Small integer constants (axes, shapes) count by value, weights by shape.

    What treats every element by itself takes as long in any shape of as many elements, whichever operand comes first.
    Measured apart, noise would make the same work look cheaper on one side of a Reshape or a Transpose, and keep those
    alive.
    """
    row = _in_a_row(site)
    operands = [_operand(f) for f in (site.operands if row is None else row)]
    if row is not None and site.op in COMMUTATIVE:
        operands.sort(key=str)
    stated = [(k, v) for k, v in site.attributes if k not in TIMELESS]
    attributes = [(k, v.tobytes().hex() if isinstance(v, np.ndarray) else v) for k, v in stated]
    text = json.dumps([KEY_VERSION, site.op, attributes, operands, site.outputs, environment], default=str)
    return blake2b(text.encode(), digest_size=20).hexdigest()


def _in_a_row(site: Site) -> list[Fact | None] | None:
    """The operands without their shape; None where that matters, or is not known."""
    shape = site.result.shape
    if site.op not in POINTWISE or shape is None or not all(isinstance(d, int) for d in shape):
        return None
    found: list[Fact | None] = []
    for fact in site.operands:
        if fact is not None and fact.shape != shape and fact.size != 1:
            return None
        found.append(None if fact is None else replace(fact, shape=(fact.size,)))
    return found


def _operand(fact: Fact | None) -> Any:
    if fact is None:
        return None
    contents = None
    if fact.constant is not None and fact.dtype in _INTEGERS and fact.size is not None and fact.size <= 64:
        contents = fact.constant.array(0).reshape(-1).tolist()
    stated = [fact.dtype, fact.shape, fact.constant is not None, contents]
    return [*stated, "hidden"] if hides(fact) else stated


_INTEGERS = (int(ir.DataType.INT64), int(ir.DataType.INT32), int(ir.DataType.BOOL))


def roofline(site: Site) -> float:
    """Milliseconds if arithmetic and memory ran at the machine's rate: no better than a rough guess."""
    if site.op in CHEAP:
        return 0.0
    if site.op in VIEWS:
        return DISPATCH
    flops, moved = work_of(site)
    work = flops / FLOPS
    if site.op in SLOW_ELEMENTWISE:
        work += _elements(site.result) * TRANSCENDENTAL
    return DISPATCH + max(work, moved / BYTES)


def work_of(site: Site) -> tuple[float, float]:
    """Floating-point operations of the products in a site, and bytes of its operands and results."""
    moved = sum(_bytes(f) for f in site.operands if f is not None) + _bytes(site.result) * site.outputs
    return _flops(site), moved


def _elements(fact: Fact) -> int:
    return prod(d if isinstance(d, int) else DEFAULT_DIM for d in fact.shape or ())


def _bytes(fact: Fact) -> float:
    return _elements(fact) * item_bytes(fact.dtype)


def _flops(site: Site) -> float:
    match site.op.partition("@")[0]:
        case "MatMul" | "com.microsoft::FusedMatMul":
            return 2.0 * _elements(site.result) * _last(site.operands[0])
        case "Gemm":
            transposed = dict(site.attributes).get("transA", 0)
            operand = site.operands[0]
            shape = operand.shape if operand is not None and operand.shape else (DEFAULT_DIM,)
            return 2.0 * _elements(site.result) * _number(shape[0] if transposed else shape[-1])
        case "Conv" | "com.microsoft::FusedConv" | "ConvTranspose":
            weight = site.operands[1]
            per_output = prod(_number(d) for d in (weight.shape or ())[1:]) if weight is not None else 1
            return 2.0 * _elements(site.result) * per_output
        case "Attention" | "com.microsoft::MultiHeadAttention" | "com.microsoft::GroupQueryAttention":
            keys = site.operands[1]
            length = _number(keys.shape[-2]) if keys is not None and keys.shape and len(keys.shape) > 1 else DEFAULT_DIM
            return 4.0 * _elements(site.result) * length
        case _:
            return 0.0


def _last(fact: Fact | None) -> int:
    return _number(fact.shape[-1]) if fact is not None and fact.shape else DEFAULT_DIM


def _number(dim: Any) -> int:
    return dim if isinstance(dim, int) else DEFAULT_DIM


@dataclass
class Prices:
    """Prices of one compilation.

    Args:
        store: where measured prices are kept.
        environment: target, device, threads, library versions as one text.
        measure: milliseconds (median, spread, samples) of a site, None where it cannot run alone; None: never measure.
        preferences: factors on the prices of operators that do better among others than alone; trials of whole blocks
            have the last word.
        sizes: what free dimensions are priced at.
        settled: operators that no trial leaves out: what is fused after the choice shows in no trial of a block.
        estimate: milliseconds of a site that was not measured; None: a processor's roofline.
    """

    store: Stored
    environment: str
    measure: Callable[[Site], tuple[float, float, int] | None] | None = None
    preferences: Mapping[str, float] = field(default_factory=dict[str, float])
    sizes: Sizes = field(default_factory=dict[str, int])
    settled: frozenset[str] = frozenset()
    estimate: Callable[[Site], float] | None = None
    _known: dict[str, float | None] = field(default_factory=dict[str, float | None])

    def price(self, site: Site) -> float:
        """The best figure known without measuring."""
        site = self._bound(site)
        found = self._measured(site)
        return (self._estimated(site) if found is None else found) * self.preferences.get(site.op, 1.0)

    def _estimated(self, site: Site) -> float:
        return roofline(site) if self.estimate is None else self.estimate(site)

    def _bound(self, site: Site) -> Site:
        if not self.sizes:
            return site
        operands = tuple(None if f is None else bound(f, self.sizes) for f in site.operands)
        return replace(site, operands=operands, result=bound(site.result, self.sizes))

    def _measured(self, site: Site) -> float | None:
        """The stored measurement, None where there is none."""
        if site.op in CHEAP:
            return 0.0
        key = key_of(site, self.environment)
        if key not in self._known:
            row = self.store.price(key)
            self._known[key] = None if row is None else float(row.milliseconds)
        return self._known[key]

    def ensure(self, sites: Sequence[Site], seconds: Callable[[], float]) -> int:
        """Measure what has no figure yet while seconds are left; how many were measured."""
        done = 0
        for site in map(self._bound, sites):
            key = key_of(site, self.environment)
            if self.measure is None or seconds() <= 0 or self._measured(site) is not None:
                continue
            timing = self.measure(site)
            if timing is None:
                self._known[key] = self._estimated(site)
                continue
            milliseconds, spread, samples = timing
            self._known[key] = milliseconds
            self.store.put_price(key, milliseconds, spread, samples, {"op": site.op, "environment": self.environment})
            done += 1
        return done
