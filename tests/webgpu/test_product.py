"""Matrix products in every form, beside ONNX Runtime."""

from __future__ import annotations

import pytest

from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.kernels.contraction import Turned
from tamago.backends.webgpu.kernels.product import Product
from tamago.backends.webgpu.kernels.ranking import ranked
from tamago.backends.webgpu.kernels.registry import Form
from tamago.backends.webgpu.kernels.threads import Block, write_blocks
from tamago.backends.webgpu.kernels.tile import Tile
from tamago.backends.webgpu.kernels.tiled import write_tiles
from tamago.backends.webgpu.kernels.vector import Strip, strips, write_strip
from tests.webgpu.kernels import check, model_of, only, planned

PLAIN = {
    "one": "g (float[1,1] a, float[1,1] b) => (float[1,1] y) { y = MatMul(a, b) }",
    "primes": "g (float[37,41] a, float[41,53] b) => (float[37,53] y) { y = MatMul(a, b) }",
    "even": "g (float[64,32] a, float[32,68] b) => (float[64,68] y) { y = MatMul(a, b) }",
    "batches": "g (float[2,3,17,8] a, float[2,3,8,12] b) => (float[2,3,17,12] y) { y = MatMul(a, b) }",
    "broadcast": "g (float[2,1,5,16] a, float[3,16,8] b) => (float[2,3,5,8] y) { y = MatMul(a, b) }",
    "joined": "g (float[2,9,16] a, float[16,20] b) => (float[2,9,20] y) { y = MatMul(a, b) }",
    "turned": """g (float[16,12] a, float[20,16] b) => (float[12,20] y) {
        c = Transpose(a)  d = Transpose(b)  y = MatMul(c, d) }""",
    "heads": """g (float[1,9,2,8] a, float[1,9,2,8] b) => (float[1,2,9,9] y) {
        c = Transpose<perm=[0,2,1,3]>(a)  d = Transpose<perm=[0,2,3,1]>(b)  y = MatMul(c, d) }""",
    "row": "g (float[16] a, float[16,9] b) => (float[9] y) { y = MatMul(a, b) }",
    "column": "g (float[5,16] a, float[16] b) => (float[5] y) { y = MatMul(a, b) }",
}
GEMM = """g (float[33,12] a, float[24,33] b, float[24] c) => (float[12,24] y) {
    y = Gemm<transA=1, transB=1, alpha=0.5, beta=2.0>(a, b, c) }"""
FUSED = """g (float[2,12,36] a, float[36,24] b, float[24] c, float[2,12,24] d) => (float[2,24,12] y) {
    e = Abs(a)  f = MatMul(e, b)  h = Add(f, c)  i = Relu(h)  j = Add(i, d)  y = Transpose<perm=[0,2,1]>(j) }"""
SAME = "g (float[16,16] a) => (float[16,16] y) { b = Transpose(a)  y = MatMul(a, b) }"

TILES = [
    Tile(16, 16, 8, 4, 4),
    Tile(16, 32, 16, 4, 8, ahead=True),
    Tile(32, 16, 16, 8, 4, slices=4),
    Tile(64, 64, 8, 8, 8),
    Tile(32, 64, 32, 4, 4),
]
BLOCKS = [Block(), Block(4, 4), Block(2, 8, 32, step=4)]
STRIPS = [None, Strip(8, 8), Strip(32, 4, 2), Strip(1, 64), Strip(4, 16, 4), Strip(64, 1)]


def tiles(tile: Tile) -> Form:
    return lambda w: write_tiles(w, Product(w.root), tile)


def blocks(block: Block) -> Form:
    return lambda w: write_blocks(w, Product(w.root), block)


def strip(settings: Strip | None, *, turned: bool = False) -> Form:
    return lambda w: write_strip(w, Turned(Product(w.root)) if turned else Product(w.root), settings)


FORMS = {
    **{f"tile{i}": tiles(t) for i, t in enumerate(TILES)},
    **{f"block{i}": blocks(b) for i, b in enumerate(BLOCKS)},
    "strip": strip(Strip(8, 8)),
}


LARGE = ("tile3", "tile4", "block2")  # take a processor seconds to compile
PAIRS = [(case, form) for case in PLAIN for form in FORMS if form not in LARGE or case in ("primes", "even", "heads")]


@pytest.mark.parametrize(("case", "form"), PAIRS)
def test_every_form_of_every_operand(case: str, form: str, device: Device) -> None:
    model = model_of(PLAIN[case])
    with only("MatMul", FORMS[form]):
        plan, weights = planned(model, device)
    assert len(plan.dispatches) == 1
    check(model, device, plan, weights)


@pytest.mark.parametrize("form", [name for name in FORMS if name not in LARGE])
@pytest.mark.parametrize("half", [False, True])
def test_what_precedes_and_follows_is_done_by_the_kernel(form: str, half: bool, device: Device) -> None:
    for op, text in (("Gemm", GEMM), ("MatMul", FUSED)):
        model = model_of(text.replace("float[", "float16[") if half else text)
        with only(op, FORMS[form]):
            plan, weights = planned(model, device)
        assert len(plan.dispatches) == 1
        check(model, device, plan, weights)


@pytest.mark.parametrize("form", ["tile1", "tile4", "block1", "strip"])
def test_one_value_may_be_both_operands(form: str, device: Device) -> None:
    model = model_of(SAME)
    with only("MatMul", FORMS[form]):
        plan, weights = planned(model, device)
    check(model, device, plan, weights)


@pytest.mark.parametrize("settings", STRIPS)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["float", "float16"])
def test_few_rows_or_columns(settings: Strip | None, turned: bool, kind: str, device: Device) -> None:
    for m, k, n, by in ((1, 64, 40, "b"), (8, 67, 12, "b"), (3, 256, 36, "c"), (1, 37, 5, "c")):
        m, n = (n, m) if turned else (m, n)
        b, body = (f"{kind}[{k},{n}]", "MatMul(a, b)") if by == "b" else (f"{kind}[{n},{k}]", "Gemm<transB=1>(a, b)")
        model = model_of(f"g ({kind}[{m},{k}] a, {b} b) => ({kind}[{m},{n}] y) {{ y = {body} }}")
        with only("MatMul" if by == "b" else "Gemm", strip(settings, turned=turned)):
            plan, weights = planned(model, device)
        check(model, device, plan, weights)


def test_integers_are_summed_as_such(device: Device) -> None:
    model = model_of("g (int32[5,7] a, int32[7,6] b) => (int32[5,6] y) { y = MatMul(a, b) }")
    plan, _ = planned(model, device, candidates=20)
    assert len(plan.dispatches[0].choices) == 1


SHAPES = [
    (4096, 4096, 4096),
    (1, 4096, 4096),
    (8, 768, 3072),
    (77, 768, 768),
    (512, 49, 4608),
    (3, 5, 2),
    (1000, 1, 2048),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory", [16384, 49152])
@pytest.mark.parametrize("kind", ["float", "float16"])
def test_candidates_keep_to_the_limits_and_are_many(
    shape: tuple[int, int, int], memory: int, kind: str, device: Device
) -> None:
    m, n, k = shape
    model = model_of(f"g ({kind}[{m},{k}] a, {kind}[{k},{n}] b) => ({kind}[{m},{n}] y) {{ y = MatMul(a, b) }}")
    plan, _ = planned(model, device, 64, memory=memory, threads=256)
    choices = plan.dispatches[0].choices
    assert 5 <= len(choices) <= 64
    if m * n * k > 1 << 20:  # the default is no thread by itself, whatever the device allows
        assert "var<workgroup>" in plan.kernels[choices[0].kernel].source
    assert len(set(choices)) == len(choices)
    for choice in choices:
        source = plan.kernels[choice.kernel].source
        assert max(choice.workgroups) <= 65535
        assert workgroup_bytes(source) <= memory
        assert threads(source) <= 256
        assert source.count("@binding") <= 8


def threads(source: str) -> int:
    x, y, z = source.partition("@workgroup_size(")[2].partition(")")[0].split(", ")
    return int(x) * int(y) * int(z)


def workgroup_bytes(source: str) -> int:
    """Of all arrays of vectors and numbers that a kernel declares for its workgroups."""
    total = 0
    for line in source.splitlines():
        if line.startswith("var<workgroup>"):
            kind = line.partition(": ")[2].rstrip(";")
            size = 16 if "vec4<f32>" in kind else 8 if "vec4<f16>" in kind else 4
            for count in kind.replace(">", "").split(", ")[1:]:
                size *= int(count)
            total += size
    return total


def test_large_products_are_tiled_small_ones_are_not() -> None:
    assert ranked(4096, 4096, 4096, 1)[0].rows >= 64
    assert ranked(4096, 4096, 4096, 1)[0].threads in (128, 256)
    few = ranked(64, 64, 64, 1)[0]
    assert few.rows * few.columns <= 32 * 32
    assert all(64 <= s.across * s.down <= 256 for s in strips(1, 4096, 4096, 1))
