"""Of programs that cost much the same by price, the one with fewer operators has to be beaten by the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from tamago.compiler.facts import Array
from tamago.compiler.inference import infer
from tamago.compiler.optimise import Settings, optimise
from tamago.compiler.price import Prices, Site
from tamago.compiler.rule import Rule, Term, Value, op, rule, var
from tamago.compiler.store import Store

TEXT = """<ir_version: 10, opset_import: ["" : 18]> g (float[8,64] x) => (float[8,64] y) {
    a = Abs (x)  l = Log (a)  y = Exp (l) }"""
MILLISECONDS = {"Relu": 0.5, "Sigmoid": 0.5, "Softplus": 1.01, "Tanh": 1.0}
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


class LuckyOnce(Clock):
    """An operator's programs look fast the first time only."""

    def __init__(self, lucky: str) -> None:
        super().__init__({})
        self.lucky, self.calls = lucky, 0

    def time_blocks(
        self, models: Sequence[ir.Model], seconds: float, feeds: Mapping[str, Array] | None = None
    ) -> list[float]:
        self.calls += 1
        fast = 0.5 if self.calls == 1 else 1.0
        return [fast if any(n.op_type == self.lucky for n in model.graph) else 1.0 for model in models]


@rule(op.Sin(op.Cos(t)), drift="rounding", example={"t": "f32[2]"})
def waves_by_one(t: Value) -> Term:
    """Stands for a form of one operator beside another block's."""
    return op.Tanh(t)


def optimised(
    store: Store,
    slow: Mapping[str, float],
    text: str = TEXT,
    *more: Rule,
    seconds: float = 20.0,
    prices: Mapping[str, float] = MILLISECONDS,
    measured: Mapping[str, float] | None = None,
    clock: Clock | None = None,
) -> list[str]:
    model = ir.from_onnx_text(text)
    clock = clock or Clock({"Log": 3.0, **slow})
    settings = Settings(rules=(by_two, by_one, *more), target=clock, seconds=seconds, strict=True)
    known = {**MILLISECONDS, **prices}

    def measure(site: Site) -> tuple[float, float, int] | None:
        return None if measured is None else (measured.get(site.op, 2.0), 0.0, 5)

    optimise(model, settings, Prices(store, "tests", measure, estimate=lambda site: known.get(site.op, 2.0)), infer)
    return [n.op_type for n in model.graph]


def test_fewer_operators_are_taken_where_the_clock_does_not_speak_against_them() -> None:
    with Store.open(":memory:") as store:
        assert optimised(store, {}) == ["Abs", "Softplus"]
        assert optimised(store, {"Softplus": 9.0}) == ["Abs", "Softplus"]  # the verdict is kept, and found again


def test_more_operators_are_taken_where_the_clock_says_so() -> None:
    with Store.open(":memory:") as store:
        assert optimised(store, {"Softplus": 1.2}) == ["Abs", "Sigmoid", "Relu"]
        assert optimised(store, {}) == ["Abs", "Sigmoid", "Relu"]


def test_what_is_faster_only_once_replaces_nothing() -> None:
    with Store.open(":memory:") as store:
        assert optimised(store, {}, clock=LuckyOnce("Log")) == ["Abs", "Softplus"]


def test_the_clock_may_choose_the_program_as_it_was() -> None:
    with Store.open(":memory:") as store:
        assert optimised(store, {"Softplus": 9.0, "Relu": 9.0}) == ["Abs", "Log", "Exp"]


def test_variants_of_what_the_price_prefers_are_tried_beside_the_shorter_program() -> None:
    text = TEXT.replace("y = Exp (l) }", "e = Exp (l)  c = Cos (e)  y = Sin (c) }")
    with Store.open(":memory:") as store:
        slow = {"Softplus": 2.3, "Tanh": 2.3, "Relu": 1.3}
        assert optimised(store, slow, text, waves_by_one) == ["Abs", "Sigmoid", "Relu", "Cos", "Sin"]


def test_without_time_the_cheapest_by_price_is_taken() -> None:
    with Store.open(":memory:") as store:
        assert optimised(store, {}, seconds=0.0) == ["Abs", "Sigmoid", "Relu"]


def test_a_shorter_program_that_costs_more_than_prices_scatter_is_not_preferred() -> None:
    pairs = "".join(f"  l{i} = Log (e{i - 1})  e{i} = Exp (l{i})" for i in range(1, 6))
    text = TEXT.replace("y = Exp (l) }", f"e0 = Exp (l){pairs}  y = Neg (e5) }}")
    with Store.open(":memory:") as store:
        assert "Softplus" not in optimised(store, {}, text, prices={"Softplus": 1.2})


@rule(op.Exp(op.Log(t)), drift="rounding", example={"t": "f32[2]"})
def by_erf(t: Value) -> Term:
    """Stands for a form that looks cheap until it is measured."""
    return op.Erf(t)


@rule(op.Exp(op.Log(t)), drift="rounding", example={"t": "f32[2]"})
def by_tanh(t: Value) -> Term:
    """Stands for a form that is the best of what is left."""
    return op.Tanh(t)


GUESSED = {"Softplus": 1.0, "Erf": 1.2, "Tanh": 1.3, "Relu": 4.0, "Sigmoid": 4.0}
MEASURED = {**GUESSED, "Erf": 5.0}


def test_what_stands_in_the_place_of_an_operator_is_measured_before_it_is_tried() -> None:
    with Store.open(":memory:") as store:
        slow = {"Softplus": 9.0, "Erf": 9.0}
        assert optimised(store, slow, TEXT, by_erf, by_tanh, prices=GUESSED, measured=MEASURED) == ["Abs", "Tanh"]


def test_a_verdict_whose_program_is_not_found_again_is_given_anew() -> None:
    with Store.open(":memory:") as store:
        slow = {"Softplus": 9.0}
        assert optimised(store, slow, TEXT, by_tanh, prices=GUESSED) == ["Abs", "Tanh"]
        assert optimised(store, {**slow, "Erf": 2.0}, TEXT, by_tanh, by_erf, prices=GUESSED) != ["Abs", "Erf"]
        assert optimised(store, {**slow, "Erf": 0.5}, TEXT, by_tanh, by_erf, prices=GUESSED) == ["Abs", "Tanh"]
