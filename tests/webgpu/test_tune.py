"""Choosing among forms by measuring: what is wrong is never fast, and what was measured is not measured again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tamago.backends.webgpu import tune
from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.measure import Bench
from tamago.backends.webgpu.plan import Choice, Plan
from tamago.backends.webgpu.recorded import recorded
from tamago.backends.webgpu.records import Records
from tamago.backends.webgpu.run import Loaded
from tamago.backends.webgpu.tune import jobs_of, tuned
from tamago.compiler.errors import TamagoError
from tests.webgpu.kernels import close, feeds_of, model_of, planned, wanted

TWO = """g (float[1,48] a, float[48,48] b, float[48,48] c) => (float[1,48] y) {
    d = MatMul(a, b)  e = Softmax(d)  f = MatMul(e, c)  y = Relu(f) }"""


class Memory:
    """A store."""

    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, Any]] = {}

    def verdict(self, key: str) -> Mapping[str, Any] | None:
        return self.rows.get(key)

    def put_verdict(self, key: str, value: Mapping[str, Any]) -> None:
        self.rows[key] = json.loads(json.dumps(value))

    def price(self, key: str) -> None:
        return None

    def put_price(self, key: str, milliseconds: float, spread: float, samples: int, meta: Mapping[str, Any]) -> None:
        """Not kept."""


@pytest.fixture
def loaded(device: Device) -> Loaded:
    plan, weights = planned(model_of(TWO), device, candidates=3)
    return Loaded(plan, weights, device)


def with_a_kernel(plan: Plan, source: str) -> Plan:
    """The first dispatch has one more choice: a kernel with another source."""
    first = plan.dispatches[0]
    kernel = replace(plan.kernels[first.choices[0].kernel], source=source)
    extra = Choice(len(plan.kernels), first.choices[0].workgroups)
    steps = (replace(first, choices=(first.choices[0], extra)), *plan.steps[1:])
    return replace(plan, kernels=(*plan.kernels, kernel), steps=steps)


def tampered(plan: Plan, old: str, new: str) -> Plan:
    source = plan.kernels[plan.dispatches[0].choices[0].kernel].source
    assert old in source
    return with_a_kernel(plan, source.replace(old, new))


def test_the_result_stays_the_same(loaded: Loaded, device: Device) -> None:
    model = model_of(TWO)
    feeds = feeds_of(model)
    found = tuned(loaded.plan, loaded, 20.0)
    loaded.take(found)
    close(loaded(feeds)[0], wanted(model, feeds))
    assert {len(d.choices) for d in found.dispatches} <= {1, 2, 3}
    assert found.kernels == loaded.plan.kernels


def test_a_kernel_that_computes_something_else_is_never_taken(loaded: Loaded) -> None:
    source = loaded.plan.kernels[loaded.plan.dispatches[0].choices[0].kernel].source
    body = source.index("{\n", source.index("fn main"))
    for wrong in (
        with_a_kernel(loaded.plan, source[: body + 2] + "}\n"),  # stores nothing, and is fast
        tampered(loaded.plan, "] = ", "] = 1.01 * "),
    ):
        candidate = wrong.dispatches[0].choices[1]
        other = Loaded(wrong, {}, loaded.device)
        found = tuned(wrong, other, 5.0)
        assert candidate not in found.dispatches[0].choices
        with Bench(other) as bench:
            assert bench.difference(wrong.dispatches[0], wrong.dispatches[0].choices[0], candidate)


def test_a_kernel_that_the_driver_refuses_is_never_taken(loaded: Loaded) -> None:
    broken = with_a_kernel(loaded.plan, "fn main() { nonsense }")
    found = tuned(broken, Loaded(broken, {}, loaded.device), 5.0)
    assert found.dispatches[0].choices == broken.dispatches[0].choices[:1]


def test_time_to_measure_ends(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(bench: Bench, *arguments: object) -> float:
        time.sleep(0.1)
        return 1.0

    monkeypatch.setattr(Bench, "time", slow)
    monkeypatch.setattr(Bench, "difference", lambda *arguments: "")
    start = time.monotonic()
    found = tuned(loaded.plan, loaded, 0.25)
    assert time.monotonic() - start < 1.0
    assert [d.choices[0] for d in found.dispatches] == [d.choices[0] for d in loaded.plan.dispatches]
    assert tuned(loaded.plan, loaded, 0.0) == loaded.plan


def test_records_are_used_again_and_completed(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Memory()
    records = Records(store, loaded.device.environment, software=True)
    first = tuned(loaded.plan, loaded, 30.0, records)
    assert store.rows
    assert all(not job.untried for job in jobs_of(first).values() if job.timings)

    def never(*arguments: object) -> float:
        raise AssertionError("measured again")

    monkeypatch.setattr(Bench, "time", never)
    again = Records(store, loaded.device.environment, software=True)
    assert tuned(loaded.plan, loaded, 30.0, again) == first
    elsewhere = Records(store, "webgpu another GPU wgpu 1", software=True)
    assert all(elsewhere.find(job.key) is None for job in jobs_of(first).values())


def test_a_plan_of_default_forms_takes_the_fastest_from_records(loaded: Loaded, device: Device) -> None:
    records, model = Records(Memory(), device.environment, software=True), model_of(TWO)
    order = iter(range(1000, 0, -1))  # the last is the fastest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bench, "time", lambda *arguments: float(next(order)))
        best = tuned(loaded.plan, loaded, 30.0, records)
    plain, weights = planned(model, device)
    found = recorded(plain, records)
    for a, b in zip(found.dispatches, best.dispatches, strict=True):
        assert found.kernels[a.choices[0].kernel] == best.kernels[b.choices[0].kernel]
        assert a.choices[0].workgroups == b.choices[0].workgroups
    feeds = feeds_of(model)
    close(Loaded(found, weights, device)(feeds)[0], wanted(model, feeds))


def test_records_of_a_gpu_travel_those_of_a_processor_do_not(loaded: Loaded, tmp_path: Path) -> None:
    path, store = tmp_path / "records.json", Memory()
    records = Records(store, "webgpu Some GPU wgpu 1")
    tuned(loaded.plan, loaded, 5.0, records)
    records.export(path)
    other = Records(Memory(), "webgpu Some GPU wgpu 2")
    assert other.import_(path) == len(records.used)
    assert all(other.find(key) == record for key, record in records.used.items())
    with pytest.raises(TamagoError, match="B045"):
        Records(Memory(), "webgpu Another wgpu 1").import_(path)
    with pytest.raises(TamagoError, match="B044"):
        Records(store, "webgpu llvmpipe", software=True).export(path)


def test_equal_kernels_are_one_job(device: Device) -> None:
    text = """g (float[1,32] a, float[32,32] b, float[32,32] c) => (float[1,32] y) {
        d = MatMul(a, b)  e = Softmax(d)  f = MatMul(e, c)  y = Softmax(f) }"""
    plan, _ = planned(model_of(text), device, candidates=4)
    jobs = jobs_of(plan)
    assert len(jobs) < len(plan.dispatches)
    assert sum(job.count for job in jobs.values()) == len(plan.dispatches)
    assert tune.SECONDS == 30.0


def test_both_clocks_agree_about_what_takes_longer(loaded: Loaded, device: Device) -> None:
    text = "g (float[{0},{0}] a, float[{0},{0}] b) => (float[{0},{0}] y) {{ y = MatMul(a, b) }}"
    for features in (device.features, device.features - {"timestamps"}):
        times: list[float] = []
        for size in (8, 192):
            plan, weights = planned(model_of(text.format(size)), device, memory=0)
            with Bench(Loaded(plan, weights, replace(device, features=features))) as bench:
                times.append(bench.time(plan.dispatches[0], plan.dispatches[0].choices[0]))
        assert 0 < times[0] < times[1]
