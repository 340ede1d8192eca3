"""Convolutions as two: exact where the rank is there, off by what is discarded where it is not, same geometry."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.approximate.forms import exact_form
from tamago.compiler.approximate.method import Form, Inputs, Method
from tamago.compiler.approximate.places import Place, find_places
from tamago.compiler.approximate.write import Chosen, alone, put
from tamago.compiler.rule import Expression, Skip
from tamago.rewrites import all_methods
from tamago.rewrites.low_rank.channel_factorisation import channel_factorisation
from tamago.rewrites.low_rank.convolution_patches import patch_moments
from tamago.rewrites.low_rank.spatial_factorisation import spatial_factorisation
from tests.node_cases import floats

Array = np.ndarray[Any, Any]

TARGET = OnnxRuntime(threads=1)
RANK = 8
BOTH = pytest.mark.parametrize("found", [channel_factorisation, spatial_factorisation], ids=lambda m: m.name)


@dataclass(frozen=True)
class Case:
    """A convolution, and inputs with their outputs."""

    place: Place
    inputs: Inputs

    def forms(self, found: Method) -> dict[int, Form]:
        """By rank."""
        return {int(f.setting.split()[1]): f for f in found.forms(self.place, self.inputs)}

    @property
    def y(self) -> Array:
        """Exact outputs of the first inputs."""
        return self.inputs.outputs[0]


def run(form: Form, x: Array) -> Array:
    (found,) = TARGET.lower(alone(form.term, ir.DataType.FLOAT, x.ndim))({"x": x})
    return np.asarray(found)


def model_of(weight: Array, *, bias: bool = True, after: str | None = None, **attributes: Any) -> ir.Model:
    """One convolution, and what may follow it."""
    names = ["x", "w", "b"] if bias else ["x", "w"]
    nodes = [helper.make_node("Conv", names, ["c" if after else "y"], "conv", **attributes)]
    weights = {"w": weight, "b": floats(len(weight), seed=4)} if bias else {"w": weight}
    if after:
        bounds = ["low", "high"] if after == "Clip" else []
        weights |= {"low": np.float32(0), "high": np.float32(6)} if bounds else {}
        nodes.append(helper.make_node(after, ["c", *bounds], ["y"], "after"))
    shape = ["N", weight.shape[1] * attributes.get("group", 1), *[None] * (weight.ndim - 2)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def case_of(model: ir.Model, *arrays: Array) -> Case:
    (place,) = find_places(model.graph)
    exact = exact_form(place)
    return Case(place, Inputs(arrays, tuple(run(exact, a) for a in arrays)))


def pictures(count: int, channels: int, *size: int, seed: int = 5) -> Array:
    """Inputs with a mean, and with channels and neighbours that go together."""
    x = floats(count, channels, *size, seed=seed)
    for axis in range(2, x.ndim):
        x = x + np.roll(x, 1, axis=axis)
    mixing = floats(channels, channels, seed=6) * np.arange(1, channels + 1, dtype=np.float32) ** -0.7
    return np.einsum("ij,nj...->ni...", mixing, x + 1).astype(np.float32)


def channelwise(outputs: int, *shape: int) -> Array:
    """A weight of rank 8 as [outputs, everything else]."""
    return (floats(outputs, RANK, seed=1) @ floats(RANK, prod(shape), seed=2)).reshape(outputs, *shape) / RANK


def spatial(outputs: int, channels: int, height: int, width: int) -> Array:
    """A sum of 8 separable kernels."""
    down, along = floats(RANK, channels, height, seed=1), floats(outputs, RANK, width, seed=2)
    return np.einsum("riy,orx->oiyx", down, along).astype(np.float32) / RANK


GEOMETRIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "padded": {"pads": [1, 1, 1, 1]},
    "padded on one side": {"pads": [0, 2, 1, 0]},
    "strides": {"strides": [2, 2], "pads": [1, 1, 1, 1]},
    "stride along the height": {"strides": [2, 1]},
    "stride along the width": {"strides": [1, 2], "pads": [1, 0, 1, 2]},
    "dilations": {"dilations": [2, 3], "pads": [2, 3, 2, 3]},
    "all": {"dilations": [2, 1], "strides": [1, 3], "pads": [2, 1, 0, 1], "kernel_shape": [3, 3], "group": 1},
    "same upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "same lower": {"auto_pad": "SAME_LOWER", "strides": [2, 1]},
    "valid": {"auto_pad": "VALID", "kernel_shape": [3, 3]},
}
MADE = {channel_factorisation.name: channelwise, spatial_factorisation.name: spatial}


@BOTH
@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_weight_of_that_rank_is_reproduced(found: Method, name: str) -> None:
    weight = MADE[found.name](40, 24, 3, 3)
    model = model_of(weight, **GEOMETRIES[name])
    case = case_of(model, pictures(6, 24, 10, 11), pictures(2, 24, 12, 9))

    forms = case.forms(found)

    assert set(forms) & {RANK, 2 * RANK}
    for form in forms.values():
        scale = float(np.abs(case.y).max())
        for x, y in zip(case.inputs.arrays, case.inputs.outputs, strict=True):
            np.testing.assert_allclose(np.subtract(run(form, x), y), 0, atol=1e-4 * scale)


@BOTH
@pytest.mark.parametrize("name", GEOMETRIES)
def test_patches_are_what_the_kernel_sees(found: Method, name: str) -> None:
    weight = floats(40, 12, 3, 3, seed=1)
    case = case_of(model_of(weight, bias=False, **GEOMETRIES[name]), pictures(3, 12, 10, 11), pictures(2, 12, 12, 9))
    seen = patch_moments(case.place, case.inputs.arrays)
    matrix = weight.reshape(40, -1).astype(np.float64)
    y = np.concatenate([np.moveaxis(o, 1, -1).reshape(-1, 40) for o in case.inputs.outputs]).astype(np.float64)

    np.testing.assert_allclose(matrix @ seen.mean, y.mean(axis=0), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(matrix @ seen.second @ matrix.T, np.cov(y.T, bias=True), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_what_channels_lose_is_the_discarded_energy(name: str) -> None:
    case = case_of(model_of(floats(48, 16, 3, 3, seed=1), **GEOMETRIES[name]), pictures(8, 16, 10, 11))
    y = np.moveaxis(case.y, 1, -1).reshape(-1, 48).astype(np.float64)
    energies = np.linalg.eigvalsh(np.cov(y.T, bias=True))[::-1]

    forms = case.forms(channel_factorisation)

    assert len(forms) == 3
    for rank, form in forms.items():
        error = np.moveaxis(np.subtract(run(form, case.inputs.arrays[0]), case.y), 1, -1).reshape(-1, 48)
        measured = float(np.sum(np.square(error, dtype=np.float64)) / len(error))
        assert measured == pytest.approx(float(energies[rank:].sum()), rel=0.05)
        np.testing.assert_allclose(error.mean(axis=0), 0, atol=2e-3 * float(np.abs(y).max()))


def test_least_squares_loses_less_than_the_weights_own_expansion() -> None:
    weight = floats(32, 16, 3, 3, seed=1)
    case = case_of(model_of(weight, pads=[1, 1, 1, 1]), pictures(12, 16, 12, 12))
    u, s, v = np.linalg.svd(weight.transpose(1, 2, 3, 0).reshape(48, 96).astype(np.float64), full_matrices=False)

    for rank, form in case.forms(spatial_factorisation).items():
        plain = ((u[:, :rank] * s[:rank]) @ v[:rank]).reshape(16, 3, 3, 32).transpose(3, 0, 1, 2).astype(np.float32)
        other = run(exact_form(case_of(model_of(plain, pads=[1, 1, 1, 1])).place), case.inputs.arrays[0])
        mine = np.linalg.norm(np.subtract(run(form, case.inputs.arrays[0]), case.y))
        assert mine < 0.7 * np.linalg.norm(np.subtract(other, case.y))


@BOTH
def test_unseen_pictures_lose_little_more(found: Method) -> None:
    case = case_of(model_of(floats(32, 16, 3, 3, seed=1), pads=[1, 1, 1, 1]), pictures(12, 16, 12, 12))
    other = pictures(12, 16, 12, 12, seed=9)
    wanted = run(exact_form(case.place), other)

    for form in case.forms(found).values():
        seen = np.linalg.norm(np.subtract(run(form, case.inputs.arrays[0]), case.y))
        assert np.linalg.norm(np.subtract(run(form, other), wanted)) < 1.15 * seen


@BOTH
@pytest.mark.parametrize("after", ["Relu", "Clip"])
def test_what_the_place_ends_in_comes_last(found: Method, after: str) -> None:
    model = model_of(MADE[found.name](40, 24, 3, 3), after=after)
    x = pictures(2, 24, 9, 9)
    case = case_of(model, x)
    (wanted,) = TARGET.lower(model)({"x": x})

    for form in case.forms(found).values():
        assert form.term.op == after
        result = put(model, [case.place], {"y": Chosen(found.name, form)})
        (y,) = TARGET.lower(result)({"x": x})
        np.testing.assert_allclose(y, wanted, atol=1e-4 * float(np.abs(case.y).max()))
        assert [n.op_type for n in result.graph] == ["Conv", "Conv", after]


def multiply_adds(form: Form, x: Array) -> int:
    """Of all convolutions in the form, run on x."""
    total = 0
    term: Any = form.term
    while isinstance(term, Expression):
        if term.op == "Conv":
            weight = term.inputs[1]
            assert isinstance(weight, np.ndarray)
            y = run(Form("", term), x)
            total += y.shape[0] * prod(y.shape[2:]) * weight.size
        term = term.inputs[0]
    return total


@BOTH
@pytest.mark.parametrize("name", ["plain", "strides", "stride along the height", "stride along the width"])
def test_two_convolutions_multiply_less_than_one(found: Method, name: str) -> None:
    case = case_of(model_of(floats(40, 24, 3, 3), **GEOMETRIES[name]), pictures(1, 24, 24, 24))
    x = case.inputs.arrays[0]
    exact = multiply_adds(exact_form(case.place), x)

    counts = [multiply_adds(form, x) for form in case.forms(found).values()]

    assert counts == sorted(counts, reverse=True)
    assert counts[0] < 0.85 * exact  # at three quarters of the break-even rank
    assert all(f.stored < case.place.weight.nbytes for f in case.forms(found).values())


@pytest.mark.parametrize(
    ("shape", "size"), [((40, 24, 5), (17,)), ((40, 24, 1, 1), (6, 7)), ((24, 8, 3, 3, 3), (5, 6, 7))]
)
def test_channels_are_factorised_in_any_dimension(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    case = case_of(model_of(channelwise(*shape)), pictures(2, shape[1], *size))

    for form in case.forms(channel_factorisation).values():
        found = run(form, case.inputs.arrays[0])
        np.testing.assert_allclose(found, case.y, atol=1e-4 * float(np.abs(case.y).max()))


def test_a_small_rank_is_part_of_a_larger_one() -> None:
    case = case_of(model_of(floats(48, 16, 3, 3, seed=1)), pictures(4, 16, 9, 9))
    forms = case.forms(channel_factorisation)
    first = {rank: _first_kernel(form) for rank, form in forms.items()}
    small, large = min(first), max(first)

    np.testing.assert_allclose(first[large][:small], first[small], rtol=1e-4, atol=1e-5)


def _first_kernel(form: Form) -> Array:
    inner = form.term.inputs[0]
    assert isinstance(inner, Expression)
    kernel = inner.inputs[1]
    assert isinstance(kernel, np.ndarray)
    return kernel


@BOTH
def test_where_it_does_not_apply_there_is_a_reason(found: Method) -> None:
    groups = case_of(model_of(floats(40, 12, 3, 3), group=2), pictures(1, 24, 9, 9))
    with pytest.raises(Skip, match="2 groups"):
        found.forms(groups.place, groups.inputs)
    small = case_of(model_of(floats(8, 4, 3, 3)), pictures(1, 4, 9, 9))
    with pytest.raises(Skip, match="too few"):
        found.forms(small.place, small.inputs)
    case = case_of(model_of(floats(40, 24, 3, 3)))
    with pytest.raises(Skip, match="nothing but zeros"):
        found.forms(case.place, Inputs((np.zeros((1, 24, 9, 9), np.float32),)))
    with pytest.raises(Skip, match="not finite"):
        found.forms(case.place, Inputs((np.full((1, 24, 9, 9), np.nan, np.float32),)))


@BOTH
def test_dead_channels_stay_dead(found: Method) -> None:
    weight = floats(40, 24, 3, 3, seed=1)
    weight[6:] = 0
    weight[:, 2:] = 0
    case = case_of(model_of(weight), pictures(3, 24, 9, 9))

    for form in case.forms(found).values():
        y = run(form, case.inputs.arrays[0])
        np.testing.assert_allclose(y, case.y, atol=1e-3 * float(np.abs(case.y).max()))


@BOTH
def test_inputs_that_never_vary_are_a_reason(found: Method) -> None:
    case = case_of(model_of(floats(40, 24, 3, 3)))
    with pytest.raises(Skip, match="nothing that varies"):
        found.forms(case.place, Inputs((np.full((2, 24, 9, 9), 0.1, np.float32),)))


@pytest.mark.parametrize("shape", [(40, 24, 1, 3), (40, 24, 3, 1), (40, 24, 1, 1), (40, 24, 5)])
def test_kernels_of_one_side_are_not_separated(shape: tuple[int, ...]) -> None:
    case = case_of(model_of(floats(*shape)), pictures(1, 24, *[9] * (len(shape) - 2)))
    with pytest.raises(Skip, match="both height and width"):
        spatial_factorisation.forms(case.place, case.inputs)


def test_the_methods_are_registered() -> None:
    assert set(MADE) <= {m.name for m in all_methods()}
