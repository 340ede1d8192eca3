"""The runtime in a real browser: what it computes, keeps, refuses and says."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamago.backends.webgpu.bundle import write_bundle
from tamago.backends.webgpu.plan import Choice, Dispatch, Kernel, Plan
from tests.browser import plans
from tests.browser.chromium import Chromium, Page, PageError
from tests.browser.site import Server

Open = Callable[..., AbstractContextManager[Page]]


@pytest.fixture
def loaded(tab: Page, server: Server, root: Path, request: pytest.FixtureRequest) -> Open:
    """A page with a bundle of a plan, loaded as `m`."""

    @contextmanager
    def open(plan: Plan, weights: plans.Weights, options: str = "{}", load: bool = True) -> Generator[Page]:
        name = "".join(c if c.isalnum() else "-" for c in request.node.name)
        (root / name / "blank.html").unlink(missing_ok=True)
        write_bundle(root / name, plan, weights, name="a model", force=True)
        (root / name / "blank.html").write_text("<!doctype html><link rel=icon href='data:,'>")
        tab.open(f"{server.url}{name}/blank.html")
        tab.run("window.tamago = await import('./tamago.js')")
        if load:
            tab.run(f"window.m = await tamago.load('./model.json', {options})")
        yield tab

    return open


def numbers(page: Page, inputs: str, output: str, options: str = "") -> list[Any]:
    """One output of a run, bigints as numbers."""
    return page.run(f"return Array.from((await m.run({inputs}, {options}))[{output!r}], Number)")


def test_a_plan_computes_what_numpy_does(loaded: Open) -> None:
    plan, weights = plans.mlp()
    x = np.random.default_rng(1).standard_normal((4, 16), np.float32)
    with loaded(plan, weights) as page:
        found = numbers(page, f"{{x: {x.ravel().tolist()}}}", "y")

        assert page.run("return await tamago.supported()") is True
        assert page.run("return [m.name, m.dispatches]") == ["a model", 2]
        assert page.run("return [m.inputs, m.outputs]") == [
            [{"name": "x", "shape": [4, 16], "dtype": "float32"}],
            [{"name": "y", "shape": [4, 10], "dtype": "float32"}],
        ]
        assert page.complaints == []
    np.testing.assert_allclose(found, plans.run_mlp(weights, x).ravel(), rtol=1e-4, atol=1e-4)


def test_runs_may_overlap(loaded: Open) -> None:
    """Each caller gets its own answer, whichever comes first."""
    with loaded(*plans.accumulator()) as page:
        script = "const runs = [1, 2, 3].map((v) => m.run({x: [v, 0, 0, 0]}, {outputs: ['total']}));"

        assert page.run(f"{script} return (await Promise.all(runs)).map((o) => Number(o.total[0]))") == [1, 3, 6]


def test_long_step_lists_take_several_submits(loaded: Open) -> None:
    plan, weights = plans.accumulator(in_place=True)
    many = Plan(
        plan.buffers, plan.weights, plan.kernels, plan.steps[:1] * 100 + plan.steps[1:], plan.inputs, plan.outputs
    )
    with loaded(many, weights) as page:
        assert numbers(page, "{x: [1, 2, 3, 4], before: [0, 0, 0, 1]}", "copy") == [100, 200, 300, 401]


def test_what_needs_weights_alone_is_done_once(loaded: Open) -> None:
    plan, weights = plans.prepared()
    assert plan.spent == {0, 1}
    with loaded(plan, weights) as page:
        for x in ([1.0, 1, 1, 1], [0.5, 0.5, 0.5, 0.5]):
            assert numbers(page, f"{{x: {x}}}", "y") == [2 * x[0] * n for n in range(1, 5)]
        assert page.run("return m.dispatches") == 1
        assert page.complaints == []


@pytest.mark.parametrize("in_place", [False, True])
def test_state_stays_on_the_device(loaded: Open, in_place: bool) -> None:
    with loaded(*plans.accumulator(in_place=in_place)) as page:
        assert page.run("return m.state") == {"total": "before"}
        assert page.run("return Object.keys(await m.run({x: new BigInt64Array([1n, 2n, 3n, -4n])}))") == ["copy"]
        assert numbers(page, "{x: [1, 1, 1, 1]}", "copy") == [2, 3, 4, -3]
        assert numbers(page, "{x: [0, 0, 0, 1]}", "total", "{outputs: ['total']}") == [2, 3, 4, -2]
        assert numbers(page, "{x: [1, 1, 1, 1], before: [5, 6, 7, 8]}", "copy") == [6, 7, 8, 9]
        page.run("m.reset()")
        assert numbers(page, "{x: [1, 1, 1, 1]}", "copy") == [1, 1, 1, 1]


def test_states_may_change_places(loaded: Open) -> None:
    with loaded(*plans.swap()) as page:
        first = numbers(page, "{a: [1], b: [10]}", "y")

        assert [first, *(numbers(page, "{}", "y") for _ in range(2))] == [[2], [11], [2]]


def test_every_type_comes_back_as_the_model_has_it(loaded: Open) -> None:
    with loaded(*plans.types()) as page:
        inputs = "{flags: [true, false, true], halves: [0.1, -65504, 5.96e-8], bytes: new Int8Array([-128, 0, 127])}"
        script = "return Object.entries(o).map(([name, v]) => [name, v.constructor.name, Array.from(v, Number)])"
        found = page.run(f"const o = await m.run({inputs}); {script}")

    halves = np.array([0.1, -65504, 5.96e-8], np.float16).astype(float).tolist()
    assert found == [
        ["not_flags", "Uint8Array", [0, 1, 0]],
        ["same", "Float32Array", halves],
        ["wide", "BigInt64Array", [-128000, 0, 127000]],
        ["odd", "Float32Array", np.array([0.5, -2.0, 1e-5], np.float16).astype(float).tolist()],
    ]


def test_halves_are_rounded_to_the_nearest(loaded: Open) -> None:
    """All cases of rounding: ties, subnormals, what overflows, what is no number."""
    with np.errstate(over="ignore"):
        random = np.random.default_rng(0).standard_normal(2000) * np.exp(
            np.random.default_rng(1).uniform(-25, 14, 2000)
        )
        edges = [0, -0.0, 2049, 2051, 65519, 65520, 1e-8, 2.0**-24, 1.5 * 2.0**-24, 2.0**-14, 2.0**-14 * (1 - 2.0**-12)]
        wanted = np.array([*random, *edges], np.float32).astype(np.float16).astype(np.float64)
    plan, weights = plans.types()
    with loaded(plan, weights) as page:
        values = np.array([*random, *edges], np.float32).astype(float).tolist()
        page.run(f"window.v = {json.dumps(values)}; while (v.length % 3) v.push(0)")
        script = """
            const found = [];
            for (let i = 0; i < v.length; i += 300) {
              const runs = [];
              for (let j = i; j < Math.min(i + 300, v.length); j += 3)
                runs.push(m.run({flags: [0, 0, 0], bytes: [0, 0, 0], halves: v.slice(j, j + 3)}, {outputs: ["same"]}));
              for (const o of await Promise.all(runs)) found.push(...o.same);
            }
            return found.map((x) => Number.isFinite(x) ? x : String(x))"""
        found = [float(x) for x in page.run(script)[: len(wanted)]]

    np.testing.assert_array_equal(found, wanted)


REFUSED = [
    ("{}", 'a model also needs input "flags", input "halves", input "bytes".'),
    ("{flags: [0,0,0], halves: [0,0,0], bytes: [0,0,0], x: [1]}", 'no input "x"; it has flags, halves, bytes'),
    ("{flags: [0,0,0], halves: [0,0,0], bytes: [0,0]}", 'input "bytes" has 2 elements where its shape [3] has 3'),
    ("{flags: [0,0,0], halves: [0,0,0], bytes: [0,1.5,0]}", 'input "bytes" takes integers; element 1 is 1.5'),
    ("{flags: [0,0,0], halves: [0,0,0], bytes: [0,200,0]}", 'input "bytes" takes -128 to 127 here; element 1 is 200'),
    ("{flags: [0,0,2], halves: [0,0,0], bytes: [0,0,0]}", 'input "flags" takes 0 to 1 here; element 2 is 2'),
    ("{flags: [0,0,0], halves: 'abc', bytes: [0,0,0]}", "array of numbers, not string"),
    ("{flags: [0,0,0], halves: null, bytes: [0,0,0]}", "array of numbers, not null"),
    ("{flags: [0,0,0], halves: [0,'1',0], bytes: [0,0,0]}", "one element is string"),
    ("{flags: [0,0,0], halves: new BigInt64Array(3), bytes: [0,0,0]}", "not a BigInt64Array"),
    ("{flags: [0,0,0], halves: [0,0,0], bytes: new Float32Array(3)}", "not a Float32Array"),
]


def test_wrong_inputs_are_named(loaded: Open) -> None:
    with loaded(*plans.types()) as page:
        for inputs, words in REFUSED:
            with pytest.raises(PageError) as error:
                page.run(f"await m.run({inputs})")

            assert words in str(error.value)


def test_integers_beyond_the_device_are_refused(loaded: Open) -> None:
    """The device holds 32 of 64 bits: what does not fit must never be cut off silently."""
    with loaded(*plans.accumulator()) as page:
        assert numbers(page, "{x: [2147483647, -2147483648, 0, 0]}", "total", "{outputs: ['total']}")[1] == -(2**31)
        with pytest.raises(PageError, match="element 2 is 4294967296"):
            page.run("await m.run({x: new BigInt64Array([0n, 0n, 4294967296n, 0n])})")
        with pytest.raises(PageError, match='no output "logits"; it has total, copy'):
            page.run("await m.run({x: [0, 0, 0, 0]}, {outputs: ['logits']})")


def test_progress_counts_bytes_and_kernels(loaded: Open) -> None:
    plan, weights = plans.mlp()
    with loaded(plan, weights, load=False) as page:
        seen = page.run("const s = []; await tamago.load('./model.json', {onProgress: (p) => s.push(p)}); return s")
        expected = page.run("return (await (await fetch('./model.json')).json()).shards[0].bytes")

    assert [p for p in seen if p["stage"] == "download"][-1] == {
        "stage": "download",
        "done": expected,
        "total": expected,
    }
    assert [(p["done"], p["total"]) for p in seen if p["stage"] == "compile"] == [(1, 2), (2, 2)]


def test_large_weights_are_cut_into_files(loaded: Open, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr("tamago.backends.webgpu.bundle.SHARD", 256)
    plan, weights = plans.mlp()
    with loaded(plan, weights) as page:
        count = page.run("return (await (await fetch('./model.json')).json()).shards.length")
        found = numbers(page, "{x: new Float32Array(64).fill(1)}", "y")

    assert count > 10
    np.testing.assert_allclose(
        found[:10], plans.run_mlp(weights, np.ones((1, 16), np.float32))[0], rtol=1e-4, atol=1e-4
    )


DAMAGES: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda data: data[:-1] + bytes([data[-1] ^ 1]), r"weights-0\.safetensors is damaged: its SHA-256"),
    (lambda data: data[:-5], r"weights-0\.safetensors has \d+ bytes where \d+ were written"),
    (lambda data: data + b"more", r"weights-0\.safetensors has \d+ bytes where \d+ were written"),
]


def test_a_damaged_file_is_refused(loaded: Open, root: Path) -> None:
    with loaded(*plans.mlp(), load=False) as page:
        shard = root / "test-a-damaged-file-is-refused" / "weights-0.safetensors"
        right = shard.read_bytes()
        for damage, words in DAMAGES:
            shard.write_bytes(damage(right))
            with pytest.raises(PageError, match=words):
                page.run("await tamago.load('./model.json')")
        shard.unlink()
        with pytest.raises(PageError, match=r"weights-0\.safetensors could not be fetched: HTTP status 404"):
            page.run("await tamago.load('./model.json')")


def test_what_is_no_bundle_is_refused(loaded: Open) -> None:
    with loaded(*plans.mlp(), load=False) as page:
        with pytest.raises(PageError, match=r"tamago.js is not JSON"):
            page.run("await tamago.load('./tamago.js')")
        with pytest.raises(PageError, match=r"other.json could not be fetched: HTTP status 404"):
            page.run("await tamago.load('./other.json')")
        with pytest.raises(PageError, match="was not written by tamago"):
            page.run("await tamago.load('data:application/json,{}')")


def test_a_kernel_that_does_not_compile_is_named_with_its_line(loaded: Open) -> None:
    plan, weights = plans.mlp()
    bad = Kernel(plan.kernels[0].source.replace("max(sum, 0.0)", "most(sum)"), plan.kernels[0].written)
    wrong = Plan(plan.buffers, plan.weights, (bad, *plan.kernels[1:]), plan.steps, plan.inputs, plan.outputs)
    with loaded(wrong, weights, load=False) as page, pytest.raises(PageError) as error:
        page.run("await tamago.load('./model.json')")

    assert "This browser refused kernel 0 (Gemm, Relu): line 16: unresolved call target 'most'" in str(error.value)


def test_an_adapter_that_is_too_small_is_named(loaded: Open) -> None:
    plan, weights = plans.mlp()
    wide = Kernel(plan.kernels[0].source, plan.kernels[0].written, ("f16",))
    half = Plan(plan.buffers, plan.weights, (wide, *plan.kernels[1:]), plan.steps[:1], plan.inputs, plan.outputs)
    only = Plan(
        half.buffers,
        half.weights,
        half.kernels,
        (Dispatch("Gemm", (0, 1, 2, 3), (Choice(0, (1, 1, 1)),)),),
        half.inputs,
        half.outputs,
    )
    with (
        loaded(only, weights, load=False) as page,
        pytest.raises(PageError, match="cannot run Gemm: it has no shader-f16"),
    ):
        page.run("await tamago.load('./model.json')")
    with loaded(half, weights) as page:  # another choice needs nothing: it is taken
        assert page.run("return (await m.profile())[0].choice") == 1
    threads = Kernel(
        plan.kernels[0].source.replace("@workgroup_size(1)", "@workgroup_size(512, 1, 2)"), plan.kernels[0].written
    )
    many = Plan(only.buffers, only.weights, (threads,), only.steps, only.inputs, only.outputs)
    with (
        loaded(many, weights, load=False) as page,
        pytest.raises(PageError, match=r"cannot run Gemm: max\w+ is \d+, \d+ is"),
    ):
        page.run("await tamago.load('./model.json')")
    huge = Plan((1 << 40, *plan.buffers[1:]), plan.weights, plan.kernels, plan.steps, plan.inputs, plan.outputs)
    with (
        loaded(huge, weights, load=False) as page,
        pytest.raises(PageError, match="too small for the model: maxBufferSize"),
    ):
        page.run("await tamago.load('./model.json')")


def test_the_device_is_asked_for_what_kernels_need(loaded: Open) -> None:
    """24,000 bytes for a workgroup where 16,384 are the rule, by way of constants; and a feature with its own line."""
    with loaded(*plans.shared(8, "subgroupMax(1.0)", ("subgroups",))) as page:
        assert numbers(page, "{x: [1, 2, 3, 4]}", "y") == [5, 4, 3, 2]
    with loaded(*plans.shared(750, "subgroupMax(1.0)", ("subgroups",)), load=False) as page:
        page.run(
            "GPUAdapter.prototype.requestDevice = async (asked) => { window.asked = asked; throw new Error('no'); }"
        )
        with pytest.raises(PageError, match="The graphics adapter gave no device: no"):
            page.run("await tamago.load('./model.json')")
        asked = page.run("return asked")
    assert "subgroups" in asked["requiredFeatures"]
    assert asked["requiredLimits"] == {
        "maxBufferSize": 16,
        "maxStorageBufferBindingSize": 16,
        "maxStorageBuffersPerShaderStage": 2,
        "maxComputeWorkgroupSizeX": 4,
        "maxComputeWorkgroupSizeY": 1,
        "maxComputeWorkgroupSizeZ": 1,
        "maxComputeInvocationsPerWorkgroup": 4,
        "maxComputeWorkgroupStorageSize": 24000,
        "maxComputeWorkgroupsPerDimension": 1,
    }


def test_the_callers_device_is_used_and_kept(loaded: Open) -> None:
    plan, weights = plans.mlp()
    with loaded(plan, weights, load=False) as page:
        page.run("window.device = await (await navigator.gpu.requestAdapter()).requestDevice()")
        page.run("window.m = await tamago.load('./model.json', {device})")
        assert len(numbers(page, "{x: new Float32Array(64)}", "y")) == 40
        assert page.run("return (await m.profile()).every((r) => r.ms > 0)")  # it has no clock of its own
        page.run("m.dispose(); device.createBuffer({size: 4, usage: 8}).destroy()")
        with pytest.raises(PageError, match="The model was disposed of"):
            page.run("await m.run({x: new Float32Array(64)})")


def test_a_lost_device_says_so(loaded: Open) -> None:
    plan, weights = plans.mlp()
    with loaded(plan, weights, load=False) as page:
        page.run("window.device = await (await navigator.gpu.requestAdapter()).requestDevice()")
        page.run("window.m = await tamago.load('./model.json', {device}); device.destroy(); await device.lost")
        with pytest.raises(PageError, match=r"The graphics device was lost|disposed"):
            page.run("await m.run({x: new Float32Array(64)})")


def test_without_webgpu_there_is_a_reason(server: Server, loaded: Open) -> None:
    plain = Chromium(flags=())
    try:
        with (
            loaded(*plans.mlp(), load=False),
            plain.page(f"{server.url}test-without-webgpu-there-is-a-reason/") as page,
        ):
            page.run("window.tamago = await import('./tamago.js')")

            assert page.run("return await tamago.supported()") is False
            with pytest.raises(PageError, match="no graphics adapter that it may use"):
                page.run("await tamago.load('./model.json')")
            page.wait("document.querySelector('#problem').textContent.includes('no graphics adapter')")
            page.run("Object.defineProperty(navigator, 'gpu', {value: undefined})")
            with pytest.raises(PageError, match=r"This browser has no WebGPU. Use a current"):
                page.run("await tamago.load('./model.json')")
    finally:
        plain.close()
