"""Conversion keeps what ONNX Runtime computes: on every case of the backend suite, and on every rewritten old form."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tamago.compiler.opset import LOWEST, TARGET, to_target
from tamago.compiler.opsets.rewrites import REWRITES
from tests.conformance import suite
from tests.conformance.old_opsets import OLD, Old

CHUNKS = 8


def _opset(model: onnx.ModelProto) -> int:
    return max((o.version for o in model.opset_import if o.domain == ""), default=TARGET)


def _copy(model: onnx.ModelProto) -> ir.Model:
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    return ir.from_proto(proto)


@pytest.mark.parametrize("index", range(CHUNKS))
def test_converted_cases_still_pass(index: int) -> None:
    converted, broken = 0, list[str]()
    for case in suite.chunk(index, CHUNKS):
        original = case.load()[0]
        if _opset(original) >= TARGET or not suite.passes(case, optimise=True):
            continue
        model = _copy(original)
        nodes = {n.name for n in model.graph.all_nodes() if n.name}
        values = {v.name for n in model.graph.all_nodes() for v in n.outputs if v.name}
        to_target(model)
        if model.opset_imports[""] == _opset(original):
            continue
        converted += 1
        proto = ir.to_proto(model)
        onnx.checker.check_model(proto)
        reason = suite.verdict(proto, case)
        broken += [f"{case.name}: {reason}"] if reason is not None else []
        assert nodes <= {n.name for n in model.graph.all_nodes()}, case.name
        assert values <= {v.name for n in model.graph.all_nodes() for v in n.outputs}, case.name
    assert not broken
    assert converted > 100  # of 1,078 in all with onnx 1.23


def _feeds(session: Any) -> list[Any]:
    generator = np.random.default_rng(0)
    feeds: list[Any] = []
    for info in session.get_inputs():
        shape = [d if isinstance(d, int) else 4 for d in info.shape]
        if info.type == "tensor(bool)":
            feeds.append(np.asarray(generator.integers(0, 2, shape), dtype=bool))
        elif info.name == "scales":
            feeds.append(np.asarray([1, 1, 2, 2], np.float32))
        else:
            feeds.append(generator.standard_normal(shape).astype(np.float32))
    return feeds


@pytest.mark.parametrize("old", OLD, ids=lambda old: old.name)
def test_old_forms(old: Old) -> None:
    """Bit for bit what ONNX Runtime computed at the old opset, at the opset that is promised."""
    original = old.model()
    session = suite.open_session(original)
    feeds = _feeds(session)
    wanted = suite.run(session, feeds)
    model = _copy(original)

    notes = to_target(model)

    reached = model.opset_imports[""]
    assert reached == (old.reaches or old.opset), notes
    assert bool(notes) == (reached != TARGET)
    assert reached >= LOWEST or ir.to_proto(model).graph == ir.to_proto(_copy(original)).graph
    found = suite.run(suite.open_session(ir.to_proto(model)), feeds)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_rewrite_is_exercised() -> None:
    assert {step for old in OLD for step in old.steps} == set(REWRITES)
