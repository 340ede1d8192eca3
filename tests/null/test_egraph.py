"""The e-graph: congruence, matching in both orders, facts that must agree, and limits that hold."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from tamago.compiler.egraph import EGraph, Origin
from tamago.compiler.facts import Contradiction, Fact
from tamago.compiler.rule import Rest, Rule, Skip, Term, Value, op, rule, var
from tamago.compiler.saturate import Builder, Limits, saturate

FLOAT = int(ir.DataType.FLOAT)
MODEL = Origin(None, ())
x, y, z = var("x y z")


def leaf(egraph: EGraph, *shape: int) -> int:
    return egraph.leaf(Fact(FLOAT, shape))


def apply(builder: Builder, name: str, *children: int) -> int:
    return builder.node(name, {}, list(children), MODEL)


@rule(op.Relu(op.Relu(x)), drift="none", example={"x": "f32[2]"})
def relu_pair(x: Value) -> Term:
    """Relu(Relu(x)) = Relu(x)."""
    return op.Relu(x)


@rule(op.Add(op.Neg(x), y), drift="none", example={"x": "f32[2]", "y": "f32[2]"})
def negated_addend(x: Value, y: Value) -> Term:
    """(−x) + y = y − x."""
    return op.Sub(y, x)


def test_equal_operands_make_equal_terms() -> None:
    egraph = EGraph()
    builder = Builder(egraph)
    a = leaf(egraph, 2)
    once, twice = apply(builder, "Relu", a), apply(builder, "Relu", apply(builder, "Relu", a))
    after_once, after_twice = apply(builder, "Neg", once), apply(builder, "Neg", twice)

    saturate(egraph, [relu_pair], Limits())

    assert egraph.find(after_once) == egraph.find(after_twice)


def test_commutative_operators_match_in_both_orders() -> None:
    egraph = EGraph()
    builder = Builder(egraph)
    a, b = leaf(egraph, 2), leaf(egraph, 2)
    apply(builder, "Add", b, apply(builder, "Neg", a))

    report = saturate(egraph, [negated_addend], Limits())

    assert report.applied["negated_addend"] == 1


def test_two_rules_of_one_pattern_are_both_told_where_it_is() -> None:
    egraph = EGraph()
    builder = Builder(egraph)
    apply(builder, "Relu", apply(builder, "Relu", leaf(egraph, 2)))
    other = replace(relu_pair, name="other")

    assert [m.rule.name for m in egraph.matches([relu_pair, other])] == ["other", "relu_pair"]
    assert egraph.matches([relu_pair, other]) == []


def test_a_pattern_is_looked_for_from_when_its_last_operator_came() -> None:
    egraph = EGraph()
    builder = Builder(egraph)
    a, b = leaf(egraph, 2), leaf(egraph, 2)
    apply(builder, "Relu", a)
    assert egraph.matches([negated_addend]) == []
    negated = apply(builder, "Neg", a)
    assert egraph.matches([negated_addend]) == []

    apply(builder, "Add", negated, b)

    assert [m.rule.name for m in egraph.matches([negated_addend])] == ["negated_addend"]


def test_a_variadic_pattern_is_looked_for_in_arities_that_come_later() -> None:
    @rule(op.Concat(Rest("xs"), axis=var("axis")), drift="none", example={"xs": ["f32[2]"], "axis": 0})
    def joined(xs: tuple[Value, ...], axis: int) -> Term:
        """A twin."""
        return op.Relu(xs[0])

    egraph = EGraph()
    builder = Builder(egraph)
    a, b = leaf(egraph, 2), leaf(egraph, 2)
    builder.node("Concat", {"axis": 0}, [a, b], MODEL)
    assert len(egraph.matches([joined])) == 1

    builder.node("Concat", {"axis": 0}, [a, b, a], MODEL)

    (found,) = egraph.matches([joined])
    assert found.values["xs"] == (a, b, a)


def test_the_same_pattern_object_must_be_the_same_value() -> None:
    @rule(op.Sub(x, x), drift="none", example={"x": "f32[2]"})
    def same(x: Value) -> Term:
        """A twin."""
        return op.Neg(x)

    egraph = EGraph()
    builder = Builder(egraph)
    a, b = leaf(egraph, 2), leaf(egraph, 2)
    apply(builder, "Sub", a, b)

    assert saturate(egraph, [same], Limits()).applied["same"] == 0


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_rest_binds_every_further_operand(count: int) -> None:
    seen: list[int] = []

    @rule(op.Sum(x, Rest("others")), drift="none", example={"x": "f32[2]", "others": ()})
    def spy(x: Value, others: tuple[Value, ...]) -> Term:
        """A spy."""
        seen.append(len(others))
        raise Skip("only looking")

    egraph = EGraph()
    builder = Builder(egraph)
    apply(builder, "Sum", *(leaf(egraph, 2) for _ in range(count)))

    saturate(egraph, [spy], Limits())

    assert seen == [count - 1]


def test_values_of_other_shapes_are_never_equal() -> None:
    egraph = EGraph()

    with pytest.raises(Contradiction):
        egraph.union(leaf(egraph, 2), leaf(egraph, 3))


def test_a_refusal_is_reported_with_its_reason() -> None:
    @rule(op.Neg(x), drift="none", example={"x": "f32[2]"})
    def never(x: Value) -> Term:
        """Nothing."""
        raise Skip("it is Tuesday")

    egraph = EGraph()
    apply(Builder(egraph), "Neg", leaf(egraph, 2))

    assert saturate(egraph, [never], Limits()).refused["never", "it is Tuesday"] == 1


def explosive() -> Rule:
    """Associativity without a guard: the growth that limits are for."""

    @rule(op.Add(op.Add(x, y), z), drift="rounding", example={"x": "f32[2]", "y": "f32[2]", "z": "f32[2]"})
    def associativity(x: Value, y: Value, z: Value) -> Term:
        """(x+y)+z = x+(y+z)."""
        return op.Add(x, op.Add(y, z))

    return associativity


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (Limits(rows=500, seconds=60, iterations=99), "500 rows, grown most by associativity"),
        (Limits(rows=10**9, seconds=0.5, iterations=99), "0.5 seconds"),
        (Limits(rows=10**9, seconds=60, iterations=2), "2 iterations"),
        (Limits(rows=10**9, seconds=60, iterations=99, memory=1), "memory"),
    ],
)
def test_limits_are_kept_between_matches(limits: Limits, word: str) -> None:
    egraph = EGraph()
    builder = Builder(egraph)
    total = leaf(egraph, 2)
    for _ in range(14):
        total = apply(builder, "Add", total, leaf(egraph, 2))
    start = time.perf_counter()

    report = saturate(egraph, [explosive()], limits)

    assert word in report.stop
    assert len(egraph) <= limits.rows + 8
    assert time.perf_counter() - start < 30


def test_a_chain_of_three_thousand_nodes() -> None:
    egraph = EGraph()
    builder = Builder(egraph)
    value = leaf(egraph, 2)
    for i in range(3000):
        value = apply(builder, "Relu" if i % 3 else "Neg", value)
    start = time.perf_counter()

    report = saturate(egraph, [relu_pair], Limits(seconds=60))

    assert report.stop == "saturated"
    assert report.applied["relu_pair"] >= 1000
    assert time.perf_counter() - start < 30


def test_constants_with_equal_contents_are_one_value() -> None:
    builder = Builder(EGraph())

    assert builder.constant(np.ones(3, np.float32)) == builder.constant(np.ones(3, np.float32))
    assert builder.constant(np.ones(3, np.float32)) != builder.constant(np.ones(3, np.float64))
