"""How a rewrite is written down: a pattern, its identity, its drift, its guard and its example.

    x, p, q = var("x p q")

    @rule(op.Transpose(op.Transpose(x, perm=p), perm=q), drift="none", example={"x": "f32[2,3,5]", "p": (1, 2, 0), ...})
    def transpose_pair(x, p, q):
        "Transpose(Transpose(x, p), q) = Transpose(x, p∘q), and x itself when p∘q is the identity."

The function is called once for every place where the pattern matches, with a `Value` for every variable that stands
for a tensor and a plain Python value for every variable that stands for an attribute; a parameter called `root` gets
the matched value itself. It returns the equal expression, or raises `Skip` with the reason it does not apply.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

from .facts import Array, Fact

Drift = Literal["none", "rounding"]
Phase = Literal["canonicalise", "explore", "lower"]


class Skip(Exception):
    """Raised by a rule's guard: the reason it does not apply here, as a clause a user can read."""


class Host(Protocol):
    """What a `Value` asks of the e-graph it lives in."""

    def fact(self, uid: int) -> Fact:
        """What is known of a value."""
        ...

    def instances(self) -> int:
        """How many repeats of the block share the e-graph."""
        ...


@dataclass(frozen=True)
class Value:
    """A value of the program as a rule sees it: its facts, never how it was computed."""

    host: Host = field(repr=False, compare=False)
    uid: int

    @property
    def fact(self) -> Fact:
        """What is known of the value."""
        return self.host.fact(self.uid)

    @property
    def dtype(self) -> int | None:
        """The ONNX number of the element type, None while it is not known."""
        return self.fact.dtype

    @property
    def shape(self) -> tuple[int | str | None, ...]:
        """The dimensions.

        Raises:
            Skip: the rank is not known.
        """
        shape = self.fact.shape
        if shape is None:
            raise Skip("the rank of an operand is not known")
        return shape

    @property
    def rank(self) -> int:
        """The number of dimensions; `Skip` when it is not known."""
        return len(self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The dimensions as numbers.

        Raises:
            Skip: some dimension is not known.
        """
        dims = tuple(d for d in self.shape if isinstance(d, int))
        if len(dims) != self.rank:
            raise Skip("a dimension of an operand is not known")
        return dims

    @property
    def size(self) -> int | None:
        """The number of elements, None while a dimension is not known."""
        return self.fact.size

    @property
    def is_const(self) -> bool:
        """Whether the contents are known."""
        return self.fact.constant is not None

    @property
    def array(self) -> Array:
        """The contents of a constant that is the same in every instance of the block.

        Raises:
            Skip: the value is not constant, or differs between instances.
        """
        constant = self.fact.constant
        if constant is None:
            raise Skip("an operand is not a constant")
        if len(constant) > 1:
            raise Skip("the constant differs between the repeats of this block")
        return constant.array(0)

    @property
    def scalar(self) -> float:
        """The one number a constant holds in all its elements.

        Raises:
            Skip: not a constant, or not one number.
        """
        array = self.array
        if array.size == 0 or (not np.issubdtype(array.dtype, np.number) and array.dtype.kind not in "fiubV"):
            raise Skip("the constant is not a number")
        flat = array.reshape(-1)
        if array.size > 1 and not bool(np.all(flat == flat[0])):
            raise Skip("the constant holds different numbers")
        return float(flat[0])

    def every(self, predicate: Callable[[Array], bool]) -> bool:
        """Whether a constant satisfies the predicate in every instance of the block; False when not constant."""
        constant = self.fact.constant
        if constant is None:
            return False
        return all(predicate(constant.array(i)) for i in range(len(constant)))


@dataclass(frozen=True, eq=False)
class Var:
    """A pattern variable: any value, or any attribute value when used as a keyword."""

    name: str


@dataclass(frozen=True, eq=False)
class Rest:
    """A pattern variable for all remaining inputs of a variadic operator; bound to a tuple of values."""

    name: str


@dataclass(frozen=True, eq=False)
class Number:
    """A constant in a pattern, compared with the contents of the matched constant (all its elements)."""

    number: float


@dataclass(frozen=True, eq=False)
class Pattern:
    """An operator applied to patterns. The same object used twice must match the same value."""

    op: str
    inputs: tuple[Pattern | Var | Rest | Number, ...]
    attributes: Mapping[str, Any]
    index: int | None = None  # which output of a node with several
    outputs: int | None = None
    name: str | None = None

    def out(self, index: int) -> Pattern:
        """The pattern's `index`-th output; the operator must be written with `outputs=`."""
        return Pattern("out", (self,), {"index": index})

    def named(self, name: str) -> Pattern:
        """The same pattern, whose value the rule is given under this name: for its facts, as with a variable."""
        return replace(self, name=name)


@dataclass(frozen=True, eq=False)
class Expression:
    """An operator applied to values: what a rule returns."""

    op: str
    inputs: tuple[Expression | Value | Array | None, ...]
    attributes: Mapping[str, Any]
    outputs: int | None = None

    def out(self, index: int) -> Expression:
        """The `index`-th output of an expression with several outputs."""
        return Expression("out", (self,), {"index": index})


Term = Expression | Value
Operand = Pattern | Var | Rest | Expression | Value | Array | float | int | None


class _Operators:
    """`op.Add(x, y)`: a pattern when an operand is one, an expression otherwise. `op("com.microsoft::Gelu")(x)`."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return self(name)

    def __call__(self, name: str) -> Callable[..., Any]:
        def build(*operands: Operand, outputs: int | None = None, **attributes: Any) -> Pattern | Expression:
            if any(isinstance(o, (Pattern, Var, Rest)) for o in operands):
                return Pattern(name, tuple(_as_pattern(o) for o in operands), attributes, outputs=outputs)
            return Expression(name, tuple(_as_term(o) for o in operands), attributes, outputs=outputs)

        return build


op = _Operators()


def _as_pattern(operand: Operand) -> Pattern | Var | Rest | Number:
    if isinstance(operand, (Pattern, Var, Rest)):
        return operand
    if isinstance(operand, (int, float)):
        return Number(float(operand))
    raise TypeError(f"a pattern cannot hold {operand!r}")


def _as_term(operand: Operand) -> Expression | Value | Array | None:
    if operand is None or isinstance(operand, (Expression, Value, np.ndarray)):
        return operand
    if isinstance(operand, np.generic):
        return np.asarray(operand)
    raise TypeError(f"an expression takes values, expressions and arrays, not {operand!r}: give constants a dtype")


def var(names: str) -> Any:
    """Pattern variables, one per word; a single word gives the variable itself."""
    variables = [Var(name) for name in names.split()]
    return tuple(variables) if len(variables) > 1 else variables[0]


@dataclass(frozen=True)
class Rule:
    """One identity. `examples` are places where it applies, `refusals` places where its guard must say no."""

    name: str
    patterns: tuple[Pattern, ...]
    function: Callable[..., Term | Array]
    drift: Drift
    phase: Phase
    examples: tuple[Mapping[str, Any], ...]
    refusals: tuple[Mapping[str, Any], ...]
    peers: str
    family: str
    statement: str
    parameters: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    def apply(self, bindings: Mapping[str, Any]) -> Term | Array:
        """The equal expression for one match.

        Raises:
            Skip: the rule does not apply here.
        """
        return self.function(**{name: bindings.get(name) for name in self.parameters})


def statement_of(function: Callable[..., object]) -> str:
    """The first paragraph of its docstring.

    Raises:
        TypeError: it has none.
    """
    statement = (inspect.getdoc(function) or "").strip().split("\n\n")[0].replace("\n", " ")
    if not statement:
        raise TypeError(f"{function.__name__} states nothing: give it a docstring")
    return statement


def family_of(function: Callable[..., object]) -> str:
    """The folder that it stands in."""
    return function.__module__.split(".")[-2]


def rule(
    *patterns: Pattern,
    drift: Drift,
    example: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    refuse: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    phase: Phase = "explore",
    peers: str = "",
) -> Callable[[Callable[..., Term | Array]], Rule]:
    """Declare a rewrite rule; the docstring's first line is its identity.

    Args:
        patterns: what it finds; several when the same identity is written in several ways.
        drift: "none" when both sides are bit-identical for every input, "rounding" when the result is reassociated.
        example: variables' types ("f32[2,3]", "f32[3] const", "i64[2] = 0 1") and attribute values for which
            the rule applies, or several such; "pattern" (an index) picks the pattern, default all.
        refuse: the same for which the guard must refuse; the key "because" holds words of the reason.
        phase: "canonicalise" (never larger), "explore", or "lower" (only priced, by backends).
        peers: which optimisers know it, such as "ORT L1, onnxslim"; empty when none does.
    """

    def declare(function: Callable[..., Term | Array]) -> Rule:
        statement = statement_of(function)
        return Rule(
            name=function.__name__,
            patterns=patterns,
            function=function,
            drift=drift,
            phase=phase,
            examples=(example,) if isinstance(example, Mapping) else tuple(example),
            refusals=(refuse,) if isinstance(refuse, Mapping) else tuple(refuse),
            peers=peers,
            family=family_of(function),
            statement=statement,
            parameters=tuple(inspect.signature(function).parameters),
        )

    return declare
