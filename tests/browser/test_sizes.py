"""One bundle at several sizes in a real browser: each computes what it should, weights are there once."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tamago.backends.webgpu.bundle import write_bundle
from tamago.backends.webgpu.plan import Kernel, Plan
from tamago.backends.webgpu.sizes import together
from tamago.compiler.cli import main
from tests.browser import plans
from tests.browser.chromium import Chromium, Page, PageError
from tests.browser.site import Server

Sized = tuple[Mapping[str, int], tuple[Plan, plans.Weights]]
Open = Callable[..., AbstractContextManager[Page]]
COUNT = """
window.bytes = {made: 0, written: 0};
const make = GPUDevice.prototype.createBuffer, write = GPUQueue.prototype.writeBuffer;
GPUDevice.prototype.createBuffer = function (d) {
  if (d.usage & GPUBufferUsage.STORAGE) bytes.made += d.size;
  return make.call(this, d);
};
GPUQueue.prototype.writeBuffer = function (buffer, at, data, from, count) {
  bytes.written += count ?? data.byteLength;
  return write.apply(this, arguments);
};
const compile = GPUDevice.prototype.createComputePipelineAsync;
window.compiled = 0;
GPUDevice.prototype.createComputePipelineAsync = function (d) { compiled++; return compile.call(this, d); };"""


@pytest.fixture
def opened(tab: Page, server: Server, root: Path, request: pytest.FixtureRequest) -> Open:
    """A page with a bundle of several sizes, loaded as `m`."""

    @contextmanager
    def open(*found: Sized, load: bool = True) -> Generator[Page]:
        name = "".join(c if c.isalnum() else "-" for c in request.node.name)
        (root / name / "blank.html").unlink(missing_ok=True)
        write_bundle(root / name, *together(found), name="a model", force=True)
        show(tab, server, root / name, load=load)
        yield tab

    return open


def show(page: Page, server: Server, folder: Path, *, load: bool = True) -> None:
    """An empty page beside a bundle that counts what is asked of the device."""
    (folder / "blank.html").write_text("<!doctype html><link rel=icon href='data:,'>")
    page.open(f"{server.url}{folder.name}/blank.html")
    page.run(f"window.tamago = await import('./tamago.js'); {COUNT}")
    if load:
        page.run("window.m = await tamago.load('./model.json')")


def numbers(page: Page, script: str) -> npt.NDArray[Any]:
    """An output as an array."""
    return np.asarray(page.run(f"return Array.from({script}, Number)"))


def transformer(path: Path, rows: int = 24, width: int = 32) -> onnxruntime.InferenceSession:
    """Attention with positions and a two-layer perceptron, for any batch and sequence."""
    random = np.random.default_rng(0)
    shapes = {"q": (width, width), "k": (width, width), "v": (width, width), "o": (width, width), "pos": (rows, width)}
    shapes |= {"u": (width, 4 * width), "d": (4 * width, width), "scale": (width,), "shift": (width,)}
    weights = {n: random.normal(0, 0.3, shape).astype(np.float32) for n, shape in shapes.items()}
    integers = {n: np.array(v, np.int64) for n, v in (("zero", [0]), ("one", [1]))}
    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], start=1, end=2),
        helper.make_node("Slice", ["pos", "zero", "rows", "zero"], ["p"]),
        helper.make_node("Add", ["x", "p"], ["a"]),
        helper.make_node("LayerNormalization", ["a", "scale", "shift"], ["n"]),
        *(helper.make_node("MatMul", ["n", name], [f"n{name}"]) for name in ("q", "k", "v")),
        helper.make_node("Transpose", ["nk"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["nq", "kt"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"]),
        helper.make_node("MatMul", ["shares", "nv"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "o"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("MatMul", ["c", "u"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["bent"]),
        helper.make_node("MatMul", ["bent", "d"], ["narrow"]),
        helper.make_node("Add", ["c", "narrow"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", "sequence", width]) for n in ("x", "y"))
    tensors = [numpy_helper.from_array(array, n) for n, array in (weights | integers).items()]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_every_size_answers_as_onnxruntime(
    chromium: Chromium, server: Server, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order, and after the page was loaded again; the weights are fetched and written once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    session = transformer(tmp_path / "m.onnx")
    folder = root / "transformer"
    words = ["--sizes", "batch=1", "--sizes", "sequence=4,9,24", "--force"]
    assert main(["web", str(tmp_path / "m.onnx"), str(folder), *words]) == 0
    random = np.random.default_rng(1)
    with chromium.page("about:blank") as page:
        for order in ((9, 4, 24, 9, 24, 4), (24, 9)):
            show(page, server, folder)
            page.run("window.weights = bytes.written; bytes.written = 0; performance.clearResourceTimings()")
            sent = 0
            for rows in order:
                x = random.standard_normal((1, rows, 32), np.float32)
                wanted: Any = session.run(None, {"x": x})[0]
                found = numbers(page, f"(await m.run({{x: new Float32Array({x.ravel().tolist()})}})).y")
                np.testing.assert_allclose(found, wanted.ravel(), rtol=1e-4, atol=1e-4)
                sent += x.nbytes
            assert page.run("return bytes.written") == sent  # inputs alone
            assert page.run("return performance.getEntriesByType('resource').length") == 0
        stored = [p.stat().st_size for p in folder.glob("*.safetensors")]
        assert 0 < page.run("return window.weights") < sum(stored)
        assert page.complaints == []


def linears(*rows: int) -> list[Sized]:
    return [({"rows": n}, plans.mlp(n)) for n in rows]


def test_a_size_is_made_when_it_is_first_needed(opened: Open) -> None:
    with opened(*linears(2, 4, 8)) as page:
        assert page.run("return m.sizes") == [{"rows": n} for n in (2, 4, 8)]
        assert page.run("return [m.inputs[0].shape, m.outputs[0].shape]") == [[2, 16], [2, 10]]
        assert page.run("return compiled") == 2
        made = page.run("return bytes.made")
        weights = sum(array.nbytes for array in plans.mlp()[1].values())
        assert made == weights + 2 * 4 * (16 + 32 + 10)

        page.run("window.four = await m.at({rows: 4})")
        assert page.run("return [compiled, four.inputs[0].shape, four.dispatches]") == [4, [4, 16], 2]
        page.run("await Promise.all([4, 8, 4].map((n) => m.run({x: new Float32Array(16 * n)})))")
        assert page.run("return compiled") == 6
        assert page.run("return bytes.made") == made + (4 + 8) * 4 * (16 + 32 + 10)


REFUSED = [
    (
        "m.run({x: new Float32Array(48)})",
        'a model has no size for input "x" of 48 elements; it has rows=2 (x [2,16]) and',
    ),
    ("m.at({rows: 3})", "a model has no size rows=3; it has rows=2 (x [2,16]) and rows=4 (x [4,16])."),
    ("m.at({})", "a model has no size"),
    ("m.at({rows: 2, batch: 1})", "a model has no size rows=2, batch=1"),
    ("m.run({})", 'a model also needs input "x"'),
    ("m.run({z: [1]})", 'a model has no input "z"; it has x'),
    ("m.run({x: 'abc'})", "array of numbers, not string"),
    (
        "(await m.at({rows: 2})).run({x: new Float32Array(64)})",
        'input "x" has 64 elements where its shape [2,16] has 32',
    ),
]


def test_what_the_bundle_has_not_is_refused_with_what_it_has(opened: Open) -> None:
    with opened(*linears(2, 4)) as page:
        for script, words in REFUSED:
            with pytest.raises(PageError) as error:
                page.run(f"await {script}")

            assert words in str(error.value)
        assert len(numbers(page, "(await m.run({x: new Float32Array(64)})).y")) == 40


def test_lengths_that_fit_two_sizes_are_not_guessed(opened: Open) -> None:
    """As of one text of four words, and two texts of two."""
    plan, weights = plans.mlp(4)
    other = replace(plan, inputs=(replace(plan.inputs[0], shape=(2, 2, 16)),))
    doubled = Kernel(plan.kernels[2].source.replace("= sum;", "= 2.0 * sum;"), plan.kernels[2].written)
    other = replace(other, kernels=(*plan.kernels[:2], doubled, *plan.kernels[3:]))
    with opened(({"texts": 1}, (plan, weights)), ({"texts": 2}, (other, weights))) as page:
        with pytest.raises(PageError, match=r"texts=1 \(x \[4,16\]\) and texts=2 \(x \[2,2,16\]\): run what at"):
            page.run("await m.run({x: new Float32Array(64)})")
        one, two = (
            numbers(page, f"(await (await m.at({{texts: {n}}})).run({{x: new Float32Array(64).fill(1)}})).y")
            for n in (1, 2)
        )
    np.testing.assert_allclose(2 * one, two, rtol=1e-6)


def test_state_of_one_shape_goes_on_at_other_sizes(opened: Open) -> None:
    """Runs are done in the order of calls, also where one has to be compiled first."""
    run = "m.run({{x: {0}}}, {{outputs: ['total']}})"
    calls = ", ".join(run.format(digits) for digits in ([1], [2, 3, 4], [5], [6, 7, 8]))
    with opened(*(({"digits": n}, plans.digits(n)) for n in (1, 3))) as page:
        assert page.run(f"return (await Promise.all([{calls}])).map((o) => o.total[0])") == [1, 1234, 12345, 12345678]
        page.run("m.reset()")
        assert page.run(f"return (await {run.format([7])}).total[0]") == 7
        found = page.run(f"const one = {run.format([8])}; m.reset(); return [await one, await {run.format([9, 9, 9])}]")
        assert [o["total"]["0"] for o in found] == [78, 999]


def test_prepared_weights_serve_every_size(opened: Open) -> None:
    """What the setup makes of them is made once, and outlives the buffer that it was made of."""
    plan, weights = plans.prepared()
    square = replace(plan, inputs=(replace(plan.inputs[0], shape=(2, 2)),))
    with opened(({"rank": 1}, (plan, weights)), ({"rank": 2}, (square, weights))) as page:
        for rank in (2, 1, 2):
            y = numbers(page, f"(await (await m.at({{rank: {rank}}})).run({{x: [1, 1, 1, 1]}})).y")
            assert y.tolist() == [2, 4, 6, 8]
        assert page.run("return bytes.written") == 16 + 3 * 16
        assert page.complaints == []


def test_each_size_is_tuned_by_itself(chromium: Chromium, server: Server, root: Path) -> None:
    """And finds what was measured when the page is loaded again."""
    write_bundle(root / "sizes-tuned", *together(linears(64, 32)), name="m", force=True)
    with chromium.page("about:blank") as page:
        show(page, server, root / "sizes-tuned")
        before = numbers(page, "(await m.run({x: new Float32Array(32 * 16).fill(0.5)})).y")
        assert page.run("window.small = await m.at({rows: 32}); return (await small.tune({seconds: 5})).changed") == 1
        np.testing.assert_allclose(
            numbers(page, "(await m.run({x: new Float32Array(512).fill(0.5)})).y"), before, rtol=1e-5
        )
        show(page, server, root / "sizes-tuned")
        assert page.run("return [m.tuned, (await m.at({rows: 32})).tuned]") == [False, True]
        assert page.run("return (await (await m.at({rows: 32})).profile()).map((row) => row.choice)") == [1, 0]


def test_a_size_that_the_adapter_cannot_run_leaves_the_others(opened: Open) -> None:
    plan, weights = plans.mlp(8)
    huge = replace(plan, buffers=(1 << 40, *plan.buffers[1:]))
    with opened(*linears(2), ({"rows": 8}, (huge, weights))) as page:
        assert len(numbers(page, "(await m.run({x: new Float32Array(32)})).y")) == 20
        for script in ("m.at({rows: 8})", "m.run({x: new Float32Array(128)})"):
            with pytest.raises(PageError, match="too small for the model: maxBufferSize"):
                page.run(f"await {script}")
        assert len(numbers(page, "(await m.run({x: new Float32Array(32)})).y")) == 20


def test_a_bundle_of_one_size_is_as_it_was(tab: Page, server: Server, root: Path) -> None:
    """The older format; what comes after both is refused."""
    write_bundle(root / "one-size", *plans.mlp(2), name="m", force=True)
    model = json.loads((root / "one-size" / "model.json").read_text("utf-8"))
    assert model["format"] == 2
    show(tab, server, root / "one-size")
    assert tab.run("return m.sizes") == [{}]
    assert len(numbers(tab, "(await (await m.at({})).run({x: new Float32Array(32)})).y")) == 20
    for damage in ({"format": 4}, {"format": 3}, {"plan": {**model["plan"], "format": 1}}):
        (root / "one-size" / "model.json").write_text(json.dumps(model | damage))
        with pytest.raises(PageError, match=r"model.json has format \d; this tamago.js reads formats 2 and 3"):
            tab.run("await tamago.load('./model.json')")


def test_the_page_offers_the_sizes(chromium: Chromium, server: Server, root: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    found = [({name: n}, plans.mlp(n)) for n in (2, 8)]
    write_bundle(root / "sizes-page", *together(found), name="sizes", force=True)
    write_bundle(root / "one-page", *plans.mlp(2), name="one", force=True)
    shown = "document.querySelector('#interfaces').innerText"
    with chromium.page(f"{server.url}sizes-page/") as page:
        page.wait("!document.querySelector('#model').hidden")
        assert page.run("return [...document.querySelector('#size').options].map((o) => o.text)") == [
            f"{name} = {n}" for n in (2, 8)
        ]
        assert "float32[2, 16]" in page.run(f"return {shown}")
        page.run("const s = document.querySelector('#size'); s.selectedIndex = 1; s.dispatchEvent(new Event('change'))")
        page.wait(f"{shown}.includes('float32[8, 16]')")
        page.run("document.querySelector('#run').click()")
        page.wait("document.querySelector('#figures').innerText.includes('80 in all')")
        assert page.run("return document.querySelectorAll('img').length") == 0
        assert page.complaints == []
        page.open(f"{server.url}one-page/")
        page.wait("!document.querySelector('#model').hidden")
        assert page.run("return document.querySelector('#sizes').hidden")
