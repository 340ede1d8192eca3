"""Of programs that cost much the same by price, the one with fewer operators has to be beaten by the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from tamago.compiler.facts import Array
from tamago.compiler.inference import infer
from tamago.compiler.optimise import Settings, optimise
from tamago.compiler.price import Prices, Site
from tamago.compiler.rule import Term, Value, op, rule, var
from tamago.compiler.store import Store

TEXT = """<ir_version: 10, opset_import: ["" : 18]> g (float[8,64] x) => (float[8,64] y) {
    a = Abs (x)  l = Log (a)  y = Exp (l) }"""
MILLISECONDS = {"Relu": 0.5, "Sigmoid": 0.5, "Softplus": 1.01}
t = var("t")


@rule(op.Exp(op.Log(t)), drift="rounding", example={"t": "f32[2]"})
def by_two(t: Value) -> Term:
    """Stands for a form of two operators; what it computes is of no interest here."""
    return op.Relu(op.Sigmoid(t))


@rule(op.Exp(op.Log(t)), drift="rounding", example={"t": "f32[2]"})
def by_one(t: Value) -> Term:
    """Stands for a form of one operator that costs a hundredth more by price."""
    return op.Softplus(t)


class Clock:
    """Programs take one millisecond, or what is said of an operator in them."""

    def __init__(self, slow: Mapping[str, float]) -> None:
        self.slow = slow

    def time_blocks(
        self, models: Sequence[ir.Model], seconds: float, feeds: Mapping[str, Array] | None = None
    ) -> list[float]:
        return [max(self.slow.get(n.op_type, 1.0) for n in model.graph) for model in models]


def _price(site: Site) -> float:
    return MILLISECONDS.get(site.op, 2.0)


def optimised(store: Store, slow: Mapping[str, float]) -> list[str]:
    model = ir.from_onnx_text(TEXT)
    settings = Settings(rules=(by_two, by_one), target=Clock({"Log": 3.0, **slow}), strict=True)
    optimise(model, settings, Prices(store, "tests", estimate=_price), infer)
    return [n.op_type for n in model.graph]


def test_fewer_operators_are_taken_where_the_clock_does_not_speak_against_them() -> None:
    with Store.open(":memory:") as store:
        assert optimised(store, {}) == ["Abs", "Softplus"]
        assert optimised(store, {"Softplus": 9.0}) == ["Abs", "Softplus"]  # the verdict is kept, and found again


def test_more_operators_are_taken_where_the_clock_says_so() -> None:
    with Store.open(":memory:") as store:
        assert optimised(store, {"Softplus": 1.2}) == ["Abs", "Sigmoid", "Relu"]
        assert optimised(store, {}) == ["Abs", "Sigmoid", "Relu"]


def test_the_clock_may_choose_the_program_as_it_was() -> None:
    with Store.open(":memory:") as store:
        assert optimised(store, {"Softplus": 9.0, "Relu": 9.0}) == ["Abs", "Log", "Exp"]
