"""Each place of a region is decided by itself, by what the whole program takes with and without it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tamago.backends.triton import fusion_records, target
from tamago.backends.triton.regions import Region
from tamago.compiler.facts import Array
from tamago.compiler.store import Store
from tamago.compiler.timing import Timing

PLACES = ("wide", "narrow", "wrong", "broken")
MILLISECONDS = {"wide": 2.0, "narrow": 0.5, "wrong": 0.1}
TEXT = '<ir_version: 10, opset_import: ["" : 23]> g (float[2] x) => (float[2] y) { y = Relu (x) }'


BRANCHES = """<ir_version: 10, opset_import: ["" : 23]> g (bool c, float[2] x) => (float[2] y) {
    y = If (c) <then_branch = a () => (float[2] p) { p = Relu (x) }, else_branch = b () => (float[2] q) { q = Neg (x) }>
}"""


SEQUENCE = """<ir_version: 10, opset_import: ["" : 23]>
    g (seq(float[N, 2]) xs) => (float[M, 2] y) { y = ConcatFromSequence <axis = 0> (xs) }"""


def fuse(model: ir.Model, place: str) -> ir.Model:
    """The program says in its metadata what was done to it."""
    found = model.clone()
    found.metadata_props[place] = "fused"
    return found


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> target.Cuda:
    """A target whose programs take what their places say, one being wrong and one not running."""
    tried: dict[int, float] = {}

    def attempt(self: target.Cuda, model: ir.Model, feeds: object, *, inner: bool) -> target.Tried | None:
        del self, feeds, inner
        if "broken" in model.metadata_props:
            return None

        def run() -> None: ...

        tried[id(run)] = prod(MILLISECONDS[p] for p in PLACES if p in model.metadata_props)
        kept.append(run)
        return run, [np.ones(2, np.float32) * (2 if "wrong" in model.metadata_props else 1)]

    def timed(self: target.Cuda, runs: Sequence[object], seconds: float) -> list[Timing]:
        del self, seconds
        return [Timing((tried[id(run)],)) for run in runs]

    kept: list[object] = []
    monkeypatch.setattr(target, "REGIONS", (Region("fused", lambda _: PLACES, fuse),))
    monkeypatch.setattr(target.Cuda, "_timed", timed)
    monkeypatch.setattr(target.Cuda, "_try", attempt)
    monkeypatch.setattr(target.Cuda, "_noise", lambda *_: 1e-3)
    monkeypatch.setattr(target, "environment", lambda: "a device")
    return target.Cuda(Store.open(":memory:"))


def test_a_place_is_fused_where_that_is_faster_and_right(cuda: target.Cuda) -> None:
    found, notes = cuda.finish(ir.from_onnx_text(TEXT), None)

    assert set(found.metadata_props) & set(PLACES) == {"narrow"}
    assert notes[:2] == ["fused: 1.0000 ms without, 2.0000 ms with", "fused: 1.0000 ms without, 0.5000 ms with"]
    assert [n.endswith("inf ms with") for n in notes] == [False, False, True, True]


def test_a_portable_program_has_no_regions(cuda: target.Cuda) -> None:
    portable = target.Cuda(cuda.store, portable=True)

    found, notes = portable.finish(ir.from_onnx_text(TEXT), None)

    assert not set(found.metadata_props) & set(PLACES)
    assert not notes


def test_a_program_that_is_not_captured_is_tried_once(cuda: target.Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[ir.Model] = []

    def attempt(self: target.Cuda, model: ir.Model, feeds: object, *, inner: bool) -> None:
        del self, feeds, inner
        tried.append(model)

    monkeypatch.setattr(target.Cuda, "_try", attempt)

    found, notes = cuda.finish(ir.from_onnx_text(TEXT), None)

    assert len(tried) == 1
    assert not notes
    assert not set(found.metadata_props) & set(PLACES)


def test_a_program_that_was_not_faster_is_let_go_before_the_next_is_made(
    cuda: target.Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs: list[weakref.ref[object]] = []
    held: list[int] = []

    def attempt(self: target.Cuda, model: ir.Model, feeds: object, *, inner: bool) -> target.Tried:
        del self, model, feeds, inner
        held.append(sum(made() is not None for made in programs))

        def run() -> None: ...

        programs.append(weakref.ref(run))
        return run, [np.ones(2, np.float32)]

    monkeypatch.setattr(target.Cuda, "_try", attempt)
    monkeypatch.setattr(
        target.Cuda, "_timed", lambda _, runs, __: [Timing((float(i),)) for i in range(1, len(runs) + 1)]
    )

    cuda.finish(ir.from_onnx_text(TEXT), None)

    assert held == [0, *[1] * len(PLACES)]


def test_what_a_fusion_was_worth_is_recalled(cuda: target.Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    first, measured = cuda.finish(ir.from_onnx_text(TEXT), None)
    tried = counted(monkeypatch)

    again, notes = cuda.finish(ir.from_onnx_text(TEXT.replace("x", "other")), None)

    assert again.metadata_props == first.metadata_props
    assert notes == measured
    # What the two faster programs compute is looked at; what failed or differed is tried again.
    assert [sorted(m.metadata_props) for m in tried] == [
        *[["narrow"], ["narrow", "wrong"], ["broken", "narrow"]],
        *[[], ["narrow"]],
    ]


@pytest.mark.parametrize("other", ["float[3]", "float16[2]"])
def test_a_fusion_of_another_program_is_tried(cuda: target.Cuda, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    cuda.finish(ir.from_onnx_text(TEXT), None)
    tried = counted(monkeypatch)

    cuda.finish(ir.from_onnx_text(TEXT.replace("float[2]", other)), None)

    assert len(tried) == 1 + len(PLACES)


def test_after_other_records_of_kernels_a_fusion_is_tried(cuda: target.Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.finish(ir.from_onnx_text(TEXT), None)
    tried = counted(monkeypatch)
    monkeypatch.setattr(fusion_records, "shipped_records", lambda: "others")

    cuda.finish(ir.from_onnx_text(TEXT), None)

    assert len(tried) == 1 + len(PLACES)


def test_tensors_of_a_sequence_may_differ(cuda: target.Cuda) -> None:
    model = ir.from_onnx_text(SEQUENCE)
    ragged: dict[str, Any] = {"xs": [np.ones((2, 2), np.float32), np.ones((1, 2), np.float32)]}

    found, _ = cuda.finish(model, ragged)

    assert set(found.metadata_props) & set(PLACES) == {"narrow"}


def test_what_is_recalled_but_computes_something_else_with_these_weights_is_measured_anew(
    cuda: target.Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda.finish(ir.from_onnx_text(TEXT), None)
    attempt = target.Cuda._try  # pyright: ignore[reportPrivateUsage]

    def off(self: target.Cuda, model: ir.Model, feeds: Mapping[str, Array], *, inner: bool) -> target.Tried | None:
        found = attempt(self, model, feeds, inner=inner)
        if found is None or "narrow" not in model.metadata_props:
            return found
        return found[0], [np.full(2, 3, np.float32)]

    monkeypatch.setattr(target.Cuda, "_try", off)

    found, notes = cuda.finish(ir.from_onnx_text(TEXT), None)

    assert not set(found.metadata_props) & set(PLACES)
    assert notes[1] == "fused: 1.0000 ms without, inf ms with"


def test_fusions_of_a_program_with_a_body_are_tried_each_time(
    cuda: target.Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda.finish(ir.from_onnx_text(BRANCHES), {"c": np.array(True), "x": np.ones(2, np.float32)})
    tried = counted(monkeypatch)

    cuda.finish(ir.from_onnx_text(BRANCHES), {"c": np.array(True), "x": np.ones(2, np.float32)})

    assert len(tried) == 1 + len(PLACES)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[ir.Model]:
    """The programs that are tried from here on."""
    attempt = target.Cuda._try  # pyright: ignore[reportPrivateUsage]
    tried: list[ir.Model] = []

    def count(self: target.Cuda, model: ir.Model, feeds: Mapping[str, Array], *, inner: bool) -> target.Tried | None:
        tried.append(model)
        return attempt(self, model, feeds, inner=inner)

    monkeypatch.setattr(target.Cuda, "_try", count)
    return tried
