"""Measuring in a real browser: the fastest right kernel is kept and found again, wrong ones never are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tamago.backends.webgpu.bundle import write_bundle
from tamago.backends.webgpu.plan import Choice, Dispatch, Kernel, Plan
from tests.browser import plans
from tests.browser.chromium import Chromium, Page
from tests.browser.site import Server

OPEN = "window.tamago = await import('./tamago.js'); window.m = await tamago.load('./model.json');"


def written(root: Path, name: str, plan: Plan, weights: plans.Weights) -> str:
    (root / name / "blank.html").unlink(missing_ok=True)
    write_bundle(root / name, plan, weights, name=name, force=True)
    (root / name / "blank.html").write_text("<!doctype html><link rel=icon href='data:,'>")
    return f"{name}/blank.html"


def result(page: Page) -> list[float]:
    return page.run("return Array.from((await m.run({x: new Float32Array(64 * 16).fill(0.5)})).y)")


def test_tuning_keeps_the_fastest_that_is_right(chromium: Chromium, server: Server, root: Path) -> None:
    plan, weights = plans.mlp(rows=64, wrong=True)
    address = server.url + written(root, "tuned", plan, weights)
    with chromium.page(address) as page:
        page.run(OPEN)
        before = result(page)
        report = page.run("window.s = []; return await m.tune({seconds: 5, onProgress: (p) => s.push(p)})")

        assert [r["choice"] for r in report["rejected"]] == [2]
        assert "differs" in report["rejected"][0]["reason"]
        assert (report["tried"], report["changed"], report["unmeasured"]) == (2, 1, 0)
        assert report["after"] < report["before"]
        assert report["stored"]
        assert page.run("return s.at(-1)") == {"done": 1, "total": 1, "label": ""}
        np.testing.assert_allclose(result(page), before, rtol=1e-5)

        page.open(address)  # the same profile: what was measured is there
        page.run(OPEN)
        assert page.run("return [m.tuned, (await m.profile()).map((r) => r.choice)]") == [True, [1, 0]]
        np.testing.assert_allclose(result(page), before, rtol=1e-5)
        page.run("window.m = await tamago.load('./model.json', {records: false})")
        assert page.run("return [m.tuned, (await m.profile()).map((r) => r.choice)]") == [False, [0, 0]]


def test_records_are_of_one_plan(chromium: Chromium, server: Server, root: Path) -> None:
    """Another plan under the same address does not read them, and one that makes no sense is ignored."""
    plan, weights = plans.mlp(rows=64)
    address = server.url + written(root, "replaced", plan, weights)
    with chromium.page(address) as page:
        page.run(OPEN)
        assert page.run("return (await m.tune({seconds: 5})).stored")
        other, more = plans.mlp(rows=64, wrong=True)
        written(root, "replaced", other, more)
        page.open(address)
        page.run(OPEN)
        assert page.run("return m.tuned") is False
        page.run("""
            await m.tune({seconds: 1});
            const opening = indexedDB.open("tamago", 1);
            await new Promise((done) => { opening.onsuccess = done; });
            const db = opening.result;
            const all = db.transaction("records", "readwrite").objectStore("records");
            await new Promise((done) => { all.openCursor().onsuccess = ({target: {result}}) => {
              if (!result) return done();
              result.update({...result.value, chosen: [7, "x"]});
              result.continue();
            }; });
            db.close();""")
        page.open(address)
        page.run(OPEN)
        assert page.run("return [m.tuned, (await m.profile())[0].choice]") == [False, 0]


def test_a_kernel_that_leaves_elements_out_is_rejected(chromium: Chromium, server: Server, root: Path) -> None:
    """Its buffer held the right answer of the run before; and a kernel that does not compile is no candidate either."""
    plan, weights = plans.mlp(rows=64)
    idle = Kernel(
        plan.kernels[1].source.replace("y[id.x] =", "if (id.x < 9u) { y[id.x] = 1.0; } let z ="), (False,) * 3 + (True,)
    )
    broken = Kernel(plan.kernels[1].source.replace("max(", "most("), idle.written)
    first = plan.dispatches[0]
    choices = (first.choices[1], Choice(4, first.choices[1].workgroups), Choice(5, (1, 1, 1)))
    kernels = (*plan.kernels, idle, broken)
    steps = (Dispatch(first.label, first.buffers, choices), *plan.steps[1:])
    bad = Plan(plan.buffers, plan.weights, kernels, steps, plan.inputs, plan.outputs)
    with chromium.page(server.url + written(root, "idle", bad, weights)) as page:
        page.run(OPEN)
        result(page)
        report = page.run("return await m.tune({seconds: 5})")

        assert [r["choice"] for r in report["rejected"]] == [1, 2]
        assert "most" in report["rejected"][1]["reason"]
        assert report["changed"] == 0


@pytest.mark.parametrize("in_place", [False, True])
def test_measuring_leaves_state_alone(chromium: Chromium, server: Server, root: Path, in_place: bool) -> None:
    plan, weights = plans.accumulator(in_place=in_place)
    with chromium.page(server.url + written(root, "state", plan, weights)) as page:
        page.run(OPEN)
        page.run("await m.run({x: [1, 2, 3, 4]})")
        page.run("await Promise.all([m.profile(), m.tune({seconds: 1})])")

        assert page.run("return Array.from((await m.run({x: [0, 0, 0, 1]})).copy)") == [1, 2, 3, 5]


def test_measuring_leaves_prepared_weights_alone(chromium: Chromium, server: Server, root: Path) -> None:
    plan, weights = plans.prepared()
    with chromium.page(server.url + written(root, "prepared", plan, weights)) as page:
        page.run(OPEN)
        y = "return Array.from((await m.run({x: [1, 1, 1, 1]})).y)"
        assert page.run(y) == [2, 4, 6, 8]
        assert len(page.run("return await m.profile()")) == 1
        assert page.run(y) == [2, 4, 6, 8]
        page.run("await m.tune({seconds: 1})")
        assert page.run(y) == [2, 4, 6, 8]
        assert page.complaints == []


def test_a_spent_budget_ends_tuning(chromium: Chromium, server: Server, root: Path) -> None:
    plan, weights = plans.mlp(rows=64, wrong=True)
    with chromium.page(server.url + written(root, "budget", plan, weights)) as page:
        page.run(OPEN)
        report = page.run("return await m.tune({seconds: 0})")

        assert (report["tried"], report["changed"], report["unmeasured"]) == (0, 0, 1)
