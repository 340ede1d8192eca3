"""Convolutions beside ONNX Runtime."""

from __future__ import annotations

import pytest

from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.kernels.convolution import Convolution
from tamago.backends.webgpu.kernels.depthwise import Row, write_row
from tamago.backends.webgpu.kernels.threads import Block, write_blocks
from tamago.backends.webgpu.kernels.tile import Tile
from tamago.backends.webgpu.kernels.tiled import write_tiles
from tests.webgpu.kernels import check, model_of, only, planned

CONVOLUTIONS = {
    "plain": ("[2,3,9,8]", "[5,3,3,3]", "[2,5,7,6]", ""),
    "padded": ("[1,4,7,7]", "[8,4,3,3]", "[1,8,7,7]", "pads=[1,1,1,1]"),
    "uneven": ("[1,2,7,9]", "[3,2,3,2]", "[1,3,3,10]", "pads=[1,0,0,2], strides=[2,1]"),
    "strided": ("[1,3,11,12]", "[4,3,5,3]", "[1,4,4,5]", "strides=[2,2]"),
    "dilated": ("[1,2,12,12]", "[4,2,3,3]", "[1,4,8,6]", "dilations=[2,3]"),
    "pointwise": ("[2,8,5,4]", "[12,8,1,1]", "[2,12,5,4]", ""),
    "groups": ("[1,6,8,8]", "[4,3,3,3]", "[1,4,8,8]", "group=2, pads=[1,1,1,1]"),
    "same_upper": ("[1,2,7,8]", "[3,2,4,3]", "[1,3,4,4]", 'auto_pad="SAME_UPPER", strides=[2,2]'),
    "same_lower": ("[1,2,7,8]", "[3,2,4,3]", "[1,3,4,4]", 'auto_pad="SAME_LOWER", strides=[2,2]'),
    "valid": ("[1,2,7,8]", "[3,2,4,3]", "[1,3,4,6]", 'auto_pad="VALID"'),
    "line": ("[2,3,17]", "[4,3,5]", "[2,4,9]", "strides=[2], pads=[2,2]"),
    "space": ("[1,2,5,6,4]", "[3,2,3,2,3]", "[1,3,5,5,2]", "pads=[1,0,0,1,0,0]"),
    "one_row": ("[1,16,6,6]", "[1,16,6,6]", "[1,1,1,1]", ""),
}
DEPTHWISE = {
    "depthwise": ("[1,6,9,10]", "[6,1,3,3]", "[1,6,9,10]", "group=6, pads=[1,1,1,1]"),
    "strided": ("[2,4,9,11]", "[4,1,3,3]", "[2,4,5,6]", "group=4, pads=[1,1,1,1], strides=[2,2]"),
    "doubled": ("[1,3,8,7]", "[6,1,5,3]", "[1,6,6,4]", "group=3, pads=[1,0,1,1], dilations=[1,2]"),
    "line": ("[1,4,13]", "[4,1,4]", "[1,4,10]", "group=4"),
}
TRANSPOSED = {
    "plain": ("[1,3,4,5]", "[3,2,3,3]", "[1,2,6,7]", ""),
    "strided": ("[2,4,4,3]", "[4,3,3,2]", "[2,3,7,6]", "strides=[2,2], pads=[1,0,1,0]"),
    "extra": ("[1,2,3,3]", "[2,4,3,3]", "[1,4,6,6]", "strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]"),
    "groups": ("[1,4,5,4]", "[4,2,3,3]", "[1,4,7,6]", "group=2"),
    "dilated": ("[1,2,5,5]", "[2,3,2,3]", "[1,3,7,11]", "dilations=[2,3]"),
    "same": ("[1,2,4,4]", "[2,3,3,3]", "[1,3,8,8]", 'auto_pad="SAME_UPPER", strides=[2,2]'),
    "line": ("[1,3,6]", "[3,2,4]", "[1,2,13]", "strides=[2], pads=[0,1]"),
}
FORMS = {
    "tile": lambda w: write_tiles(w, Convolution(w.root), Tile(16, 32, 8, 4, 4)),
    "ahead": lambda w: write_tiles(w, Convolution(w.root), Tile(32, 16, 16, 4, 4, ahead=True)),
    "slices": lambda w: write_tiles(w, Convolution(w.root), Tile(16, 16, 16, 4, 4, slices=4)),
    "block": lambda w: write_blocks(w, Convolution(w.root), Block(4, 2)),
}


def text(op: str, case: tuple[str, str, str, str], kind: str = "float", *, fused: bool = False) -> str:
    x, weights, y, attributes = case
    count = y.strip("[]").split(",")[1]
    call = f"{op}<{attributes}>(x, w, b)" if attributes else f"{op}(x, w, b)"
    inputs = f"{kind}{x} x, {kind}{weights} w, {kind}[{count}] b" + (f", {kind}{y} r" if fused else "")
    body = f"c = {call}  d = Add(c, r)  y = Relu(d)" if fused else f"y = {call}"
    return f"g ({inputs}) => ({kind}{y} y) {{ {body} }}"


FEW = ("padded", "pointwise", "groups", "space")
PAIRS = [(case, form) for case in CONVOLUTIONS for form in FORMS if form in ("tile", "block") or case in FEW]


@pytest.mark.parametrize(("case", "form"), [*PAIRS, ("padded", None), ("one_row", None)])
def test_convolution(case: str, form: str | None, device: Device) -> None:
    model = model_of(text("Conv", CONVOLUTIONS[case]))
    if form is None:
        plan, weights = planned(model, device)
    else:
        with only("Conv", FORMS[form]):
            plan, weights = planned(model, device)
    check(model, device, plan, weights)


IN_HALF = {
    **FORMS,
    "runs": lambda w: write_tiles(w, Convolution(w.root), Tile(16, 16, 16, 4, 4, ahead=True, run=16)),
}


@pytest.mark.parametrize("case", ["padded", "pointwise", "groups"])
@pytest.mark.parametrize("form", IN_HALF)
def test_bias_residual_and_activation_in_half_precision(case: str, form: str, device: Device) -> None:
    model = model_of(text("Conv", CONVOLUTIONS[case], "float16", fused=True))
    with only("Conv", IN_HALF[form]):
        plan, weights = planned(model, device)
    assert len(plan.dispatches) == 1
    check(model, device, plan, weights)


@pytest.mark.parametrize("case", DEPTHWISE)
@pytest.mark.parametrize("row", [Row(1), Row(4), Row(8, 128), None])
def test_one_channel_at_a_time(case: str, row: Row | None, device: Device) -> None:
    model = model_of(text("Conv", DEPTHWISE[case], fused=True))
    form = FORMS["block"] if row is None else (lambda w: write_row(w, row))
    with only("Conv", form):
        plan, weights = planned(model, device)
    check(model, device, plan, weights)


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed(case: str, device: Device) -> None:
    model = model_of(text("ConvTranspose", TRANSPOSED[case]))
    for limits in ({}, {"memory": 0}):  # by tiles, by threads
        plan, weights = planned(model, device, **limits)
        check(model, device, plan, weights)


def test_a_pointwise_convolution_reads_vectors(device: Device) -> None:
    model = model_of(text("Conv", ("[1,64,16,16]", "[64,64,1,1]", "[1,64,16,16]", "")))
    plan, _ = planned(model, device)
    assert "array<vec4<f32>>" in plan.kernels[plan.dispatches[0].choices[0].kernel].source
