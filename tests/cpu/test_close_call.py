"""A small gain of a small program is decided twice, the programs loaded anew: where they lie in memory may be all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.decide import decide
from tamago.compiler.facts import Array
from tamago.compiler.options import Options
from tamago.compiler.timing import Timing

ROUNDS = 12


@dataclass(frozen=True)
class Scripted(OnnxRuntime):
    """Each comparison finds the new program so many times faster than the original's `milliseconds`.

    Rounds swing about that by a part.
    """

    milliseconds: float = 1.0
    ratios: list[float] = field(default_factory=list[float])
    swing: float = 0.0
    asked: list[Sequence[Any]] = field(default_factory=list[Sequence[Any]])

    def time_programs(
        self, programs: Sequence[Any], feeds: Mapping[str, Array], *, rounds: int = 21, seconds: float = 20.0
    ) -> list[Timing]:
        ratio = self.ratios[len(self.asked)]
        self.asked.append(programs)
        after = [self.milliseconds / ratio / (1 + self.swing * (number % 3 - 1)) for number in range(ROUNDS)]
        return [Timing((self.milliseconds,) * ROUNDS), Timing(tuple(after))]


def model() -> ir.Model:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([2, 3]))
    node = ir.Node("", "Relu", [x])
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    return ir.Model(ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 18}), ir_version=10)


def decided(target: OnnxRuntime) -> tuple[str, float]:
    feeds = {"x": np.ones((2, 3), np.float32)}
    decision = decide(model(), model(), feeds, target, Options(), float("inf"), True)
    assert decision.timing is not None
    return decision.verdict, round(decision.timing.ratio, 6)


def test_a_small_gain_that_is_not_there_again_is_none() -> None:
    target = Scripted(1, ratios=[1.04, 0.98])

    assert decided(target) == ("no gain", 0.98)
    first, second = target.asked
    assert not {id(p) for p in first} & {id(p) for p in second}, "both are loaded anew"


def test_a_small_gain_that_is_there_again_counts_as_the_smaller_of_the_two() -> None:
    assert decided(Scripted(1, ratios=[1.04, 1.02])) == ("faster", 1.02)
    assert decided(Scripted(1, ratios=[1.02, 1.04])) == ("faster", 1.02)


@pytest.mark.parametrize(
    ("milliseconds", "ratio", "verdict"),
    [(1.0, 1.2, "faster"), (1.0, 0.97, "no gain"), (200.0, 1.02, "faster")],
    ids=["plain gain", "plain loss", "long"],
)
def test_what_is_no_close_call_is_decided_once(milliseconds: float, ratio: float, verdict: str) -> None:
    target = Scripted(1, milliseconds=milliseconds, ratios=[ratio])

    assert decided(target) == (verdict, ratio)
    assert len(target.asked) == 1


@pytest.mark.parametrize(
    ("ratio", "swing", "verdict"),
    [
        (1.0, 0.03, "no slower"),
        (1.02, 0.03, "no slower"),
        (1.0, 0.0, "no slower"),
        (1.06, 0.03, "faster"),
        (0.98, 0.03, "no gain"),
    ],
    ids=["tie", "within the interval", "equal", "beyond the interval", "slower"],
)
def test_only_what_lies_beyond_the_interval_is_called_faster(ratio: float, swing: float, verdict: str) -> None:
    found, _ = decided(Scripted(1, milliseconds=200.0, ratios=[ratio], swing=swing))

    assert found == verdict
