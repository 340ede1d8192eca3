"""Models of old opsets in ONNX's text form, at least one for every step that `compiler/opsets/rewrites.py` rewrites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser


@dataclass(frozen=True)
class Old:
    """A model of an old opset.

    Args:
        name: what it is about.
        steps: the rewrites on its way to the target.
        opset: its own.
        text: `(inputs) => (outputs) { nodes }`.
        constants: initializers by name.
        reaches: the opset it must reach; None: it must stay as it is.
    """

    name: str
    steps: tuple[tuple[str, int], ...]
    opset: int
    text: str
    constants: dict[str, Any]
    reaches: int | None = 23

    def model(self) -> onnx.ModelProto:
        """The model, in a file format of its time but with initializers that are no inputs."""
        found = parser.parse_model(f'<ir_version: 6, opset_import: ["": {self.opset}]> old {self.text}')
        for name, value in self.constants.items():
            found.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return found


def _old(
    name: str, steps: str, opset: int, text: str, reaches: int | None = 23, constants: dict[str, Any] | None = None
) -> Old:
    pairs = tuple((op, int(version)) for op, _, version in (step.partition("-") for step in steps.split()))
    return Old(name, pairs, opset, text, constants or {}, reaches)


def _f(*values: float) -> np.ndarray[Any, Any]:
    return np.asarray(values, dtype=np.float32)


def _reductions() -> list[Old]:
    kinds = "L1 L2 LogSum LogSumExp Max Mean Min Prod SumSquare"
    found: list[Old] = []
    for kind in kinds.split():
        op = f"Reduce{kind}"
        text = (
            "(float[2,3,4] x) => (float[?,?,?] y, float[?] z, float[?,?,?] all) "
            f"{{ p = Exp(x) y = {op} <axes = [1]> (p) z = {op} <axes = [0, 2], keepdims = 0> (p) all = {op} (p) }}"
        )
        found += [_old(f"{op} of opset {v}", f"{op}-18", v, text) for v in (7, 13)]
    text = (
        "(float[2,3,4] x) => (float[?,?,?] y, float[?] z, float[?,?,?] all) "
        "{ y = ReduceSum <axes = [1]> (x) z = ReduceSum <axes = [0, 2], keepdims = 0> (x) all = ReduceSum (x) }"
    )
    return [*found, _old("ReduceSum of opset 11", "ReduceSum-13", 11, text)]


def _softmaxes() -> list[Old]:
    found: list[Old] = []
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        for about, shape, axis in (
            ("the last axis", "2,3,4", " <axis = 2>"),
            ("the default axis of a matrix", "2,3", ""),
            ("the default axis of more", "2,3,4", ""),
            ("rows of ones", "2,3,1,1", ""),
            ("all axes", "2,3,4", " <axis = 0>"),
            ("a free batch", "n,3,4", " <axis = 1>"),
        ):
            text = f"(float[{shape}] x) => (float[{shape}] y) {{ y = {op}{axis} (x) }}"
            found.append(_old(f"{op} along {about}", f"{op}-13", 9, text))
        text = f"(float[2,3,4] x) => (float[2,3,4] y) {{ y = {op} <axis = -2> (x) }}"
        found.append(_old(f"{op} along a negative axis", f"{op}-13", 11, text))
    text = (
        "(float[2,3,4] x) => (float[2,3,4] y, float[2,3,4] z) "
        "{ s = Softmax <axis = 1> (x) y = Relu (s) z = Identity (s) }"
    )
    return [*found, _old("a Softmax in the middle", "Softmax-13", 9, text)]


_IMAGE = "(float[1,2,5,5] x) => (float[?,?,?,?] y)"
_CHANNELS = {"s": _f(1.5, 0.5), "b": _f(0.1, 0.2), "m": _f(0.3, -0.3), "v": _f(1.0, 2.0)}

OLD: tuple[Old, ...] = (
    *_reductions(),
    *_softmaxes(),
    _old(
        "Squeeze and Unsqueeze",
        "Squeeze-13 Unsqueeze-13",
        11,
        "(float[2,1,3] x) => (float[?,?] y, float[?,?,?,?] z, float[?,?] w) "
        "{ y = Squeeze <axes = [1]> (x) z = Unsqueeze <axes = [0]> (x) w = Squeeze (x) }",
    ),
    _old(
        "Split, equal and stated",
        "Split-13 Split-18",
        11,
        "(float[6,2] x) => (float[?,?] a, float[?,?] b, float[?,?] c, float[?,?] d) "
        "{ a, b = Split (x) c, d = Split <axis = 0, split = [2, 4]> (x) }",
    ),
    _old(
        "Split with sizes as input",
        "Split-18",
        13,
        "(float[6,2] x) => (float[?,?] a, float[?,?] b, float[?,?] c) { a, b = Split (x, n) c, d = Split (x) }",
        constants={"n": np.asarray([2, 4])},
    ),
    _old(
        "Slice",
        "Slice-10",
        9,
        "(float[4,5,6] x) => (float[?,?,?] y, float[?,?,?] z) "
        "{ y = Slice <axes = [0, 2], starts = [1, -3], ends = [3, 100]> (x) "
        "z = Slice <starts = [1], ends = [-1]> (x) }",
    ),
    _old(
        "TopK of opset 9",
        "TopK-10",
        9,
        "(float[3,5] x) => (float[?,?] y, int64[?,?] z) { y, z = TopK <k = 2, axis = 1> (x) }",
    ),
    _old(
        "Clip, both, one and no bounds",
        "Clip-11",
        9,
        "(float[3,4] x) => (float[3,4] a, float[3,4] b, float[3,4] c) "
        "{ a = Clip <min = -0.5, max = 0.5> (x) b = Clip <max = 0.25> (x) c = Clip (x) }",
    ),
    _old(
        "Pad, each mode",
        "Pad-11",
        10,
        "(float[3,4] x) => (float[?,?] a, float[?,?] b, float[?,?] c) "
        '{ a = Pad <pads = [1, 0, 0, 2], value = 1.5> (x) b = Pad <pads = [1, 1, 1, 1], mode = "reflect"> (x) '
        'c = Pad <pads = [0, 1, 2, 0], mode = "edge"> (x) }',
    ),
    _old(
        "Dropout of opset 7",
        "Dropout-10",
        7,
        "(float[3,4] x) => (float[3,4] y) { d = Dropout <ratio = 0.25> (x) y = Relu (d) }",
    ),
    _old("Dropout as output", "Dropout-12", 10, "(float[3,4] x) => (float[3,4] y) { y, mask = Dropout (x) }"),
    _old(
        "Dropout whose mask is used",
        "Dropout-12",
        10,
        "(float[3,4] x) => (float[3,4] y, bool[3,4] mask) { y, mask = Dropout (x) }",
        reaches=None,
    ),
    _old(
        "BatchNormalization",
        "BatchNormalization-9 BatchNormalization-14",
        7,
        f"{_IMAGE} {{ y = BatchNormalization <epsilon = 0.01, spatial = 1> (x, s, b, m, v) }}",
        constants=_CHANNELS,
    ),
    _old(
        "BatchNormalization per position",
        "BatchNormalization-9",
        7,
        f"{_IMAGE} {{ y = BatchNormalization <spatial = 0> (x, s, b, m, v) }}",
        reaches=None,
        constants={name: np.ones((2, 5, 5), np.float32) for name in "sbmv"},
    ),
    _old(
        "BatchNormalization that trains",
        "BatchNormalization-14",
        9,
        "(float[1,2,5,5] x) => (float[1,2,5,5] y, float[2] a) { y, a, c, d, e = BatchNormalization (x, s, b, m, v) }",
        reaches=None,
        constants=_CHANNELS,
    ),
    _old(
        "Upsample with scales as attribute",
        "Upsample-9 Upsample-10 Resize-11 Resize-13",
        7,
        "(float[1,2,5,5] x) => (float[?,?,?,?] y, float[?,?,?,?] z) "
        '{ y = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 1.5]> (x) '
        'z = Upsample <mode = "linear", scales = [1.0, 1.0, 2.0, 3.0]> (x) }',
    ),
    _old(
        "Upsample with scales as input",
        "Upsample-10 Resize-11 Resize-13",
        9,
        f"{_IMAGE} {{ y = Upsample (x, scales) }}",
        constants={"scales": _f(1, 1, 2.3, 1.7)},
    ),
    _old(
        "Resize of opset 10",
        "Resize-11 Resize-13",
        10,
        "(float[1,2,5,5] x) => (float[?,?,?,?] up, float[?,?,?,?] down, float[?,?,?,?] smooth) "
        '{ up = Resize (x, larger) down = Resize (x, smaller) smooth = Resize <mode = "linear"> (x, mixed) }',
        constants={"larger": _f(1, 1, 2, 2.5), "smaller": _f(1, 1, 0.5, 0.7), "mixed": _f(1, 1, 2, 0.5)},
    ),
    _old(
        "Resize of opset 10 with computed scales",
        "Resize-11",
        10,
        "(float[1,2,5,5] x, float[4] scales) => (float[?,?,?,?] y) { y = Resize (x, scales) }",
        reaches=None,
    ),
    _old(
        "Resize of opset 11",
        "Resize-13",
        11,
        "(float[1,2,5,5] x) => (float[?,?,?,?] a, float[?,?,?,?] b, float[?,?,?,?] c) "
        '{ a = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, none, scales) '
        'b = Resize <mode = "cubic", coordinate_transformation_mode = "pytorch_half_pixel"> (x, none, none, sizes) '
        'c = Resize <nearest_mode = "ceil"> (x, none, scales) }',
        constants={"none": _f(), "scales": _f(1, 1, 2, 1.5), "sizes": np.asarray([1, 2, 7, 3])},
    ),
    _old(
        "Resize with coordinates that were dropped",
        "Resize-13",
        11,
        f'{_IMAGE} {{ y = Resize <coordinate_transformation_mode = "tf_half_pixel_for_nn"> (x, none, scales) }}',
        reaches=None,
        constants={"none": _f(), "scales": _f(1, 1, 2, 2)},
    ),
    _old(
        "GridSample, each mode",
        "GridSample-20",
        16,
        "(float[1,2,5,5] x, float[1,3,3,2] g) => (float[?,?,?,?] a, float[?,?,?,?] b, float[?,?,?,?] c) "
        '{ a = GridSample (x, g) b = GridSample <mode = "bicubic"> (x, g) c = GridSample <mode = "nearest"> (x, g) }',
    ),
    _old(
        "RoiAlign",
        "RoiAlign-16",
        10,
        "(float[1,2,8,8] x) => (float[?,?,?,?] y) "
        "{ y = RoiAlign <output_height = 3, output_width = 3, sampling_ratio = 2> (x, rois, indices) }",
        reaches=21,
        constants={"rois": np.asarray([[1, 1, 5.5, 6]], np.float32), "indices": np.asarray([0])},
    ),
    _old(
        "DFT, default and stated axis",
        "DFT-20",
        17,
        "(float[1,4,6,1] x) => (float[?,?,?,?] a, float[?,?,?,?] b, float[?,?,?,?] c) "
        "{ a = DFT (x) b = DFT <axis = 2, onesided = 1> (x) c = DFT <axis = 1> (x, length) }",
        constants={"length": np.asarray(8)},
    ),
    _old(
        "Scatter",
        "Scatter-11",
        9,
        "(float[3,3] x) => (float[3,3] y) { y = Scatter <axis = 1> (x, i, u) }",
        constants={"i": np.asarray([[1, 0]]), "u": np.asarray([[5.0, 6.0]], np.float32)},
    ),
    _old("Erf", "Erf-13", 9, "(float[3,4] x) => (float[3,4] y) { y = Erf (x) }"),
    _old(
        "ConvTranspose",
        "ConvTranspose-11",
        10,
        f"{_IMAGE} {{ y = ConvTranspose <strides = [2, 2], pads = [1, 1, 0, 0]> (x, w) }}",
        constants={"w": np.arange(36, dtype=np.float32).reshape(2, 2, 3, 3) / 36},
    ),
    _old(
        "ConvTranspose with automatic padding",
        "ConvTranspose-11",
        10,
        f'{_IMAGE} {{ y = ConvTranspose <strides = [2, 2], auto_pad = "SAME_UPPER"> (x, w) }}',
        reaches=None,
        constants={"w": np.arange(36, dtype=np.float32).reshape(2, 2, 3, 3) / 36},
    ),
    _old(
        "Scan over a batch",
        "Scan-9",
        8,
        "(float[1,2] initial, float[1,3,2] x) => (float[1,2] y, float[1,3,2] z) { y, z = Scan <num_scan_inputs = 1, "
        "body = sum (float[2] before, float[2] next) => (float[2] after, float[2] out) "
        "{ after = Add (before, next) out = Identity (after) }> (, initial, x) }",
        reaches=None,
    ),
    _old(
        "GroupNormalization with constant and computed scales",
        "GroupNormalization-21",
        18,
        "(float[2,4,3] x, float[2] t) => (float[2,4,3] y, float[2,4,3] z) "
        "{ y = GroupNormalization <num_groups = 2> (x, s, b) z = GroupNormalization <num_groups = 2> (x, t, b) }",
        constants={"s": _f(1.5, 0.5), "b": _f(0.1, 0.2)},
    ),
    _old(
        "GroupNormalization of unknown channels",
        "GroupNormalization-21",
        18,
        "(float[a,b,c] x) => (float[a,b,c] y) { y = GroupNormalization <num_groups = 2> (x, s, b) }",
        reaches=20,
        constants={"s": _f(1.5, 0.5), "b": _f(0.1, 0.2)},
    ),
    _old(
        "AveragePool, whose fast kernel ends at 18",
        "",
        11,
        f"{_IMAGE} {{ y = AveragePool <kernel_shape = [2, 2], ceil_mode = 1, strides = [2, 2]> (x) }}",
        reaches=18,
    ),
    _old(
        "steps in bodies",
        "Squeeze-13 Softmax-13 Clip-11",
        11,
        "(bool c, float[1,2,3] x) => (float[?,?] y) { y = If (c) <"
        "then_branch = yes () => (float[?,?] a) { s = Softmax (x) a = Squeeze <axes = [0]> (s) }, "
        "else_branch = no () => (float[?,?] b) { r = Squeeze <axes = [0]> (x) b = Relu (r) }> }",
    ),
)
