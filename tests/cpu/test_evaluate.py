"""Constants in bfloat16 fold as torch would compute them; shapes of rank 0 and slices of nothing are shapes too."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch

from tamago.compiler.evaluate import CannotEvaluate, evaluate
from tamago.compiler.files import from_proto
from tamago.compiler.torch_operators.indexing import backward, sliced
from tamago.compiler.torch_program import torch_program
from tamago.compiler.torch_tensors import to_numpy, to_torch

BRAIN = np.dtype(ml_dtypes.bfloat16)
FLOAT, HALF, BFLOAT = (int(t) for t in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16))


def drawn(*shape: int) -> Any:
    return 100 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_cast_to_bfloat16_rounds_to_the_nearest() -> None:
    x = np.asarray([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -0.0, 3e38, np.inf, *drawn(50)], np.float32)

    (found,) = evaluate("Cast", {"to": BFLOAT}, [x])

    assert found.dtype == BRAIN
    assert found[:3].astype(np.float32).tolist() == [1.0, 1 + 2**-6, 1 + 2**-7]
    assert np.array_equal(found, to_numpy(torch.from_numpy(x).bfloat16()))


@pytest.mark.parametrize(("to", "dtype"), [(FLOAT, np.float32), (HALF, np.float16)])
def test_a_cast_from_bfloat16_gives_the_number_back(to: int, dtype: Any) -> None:
    x = drawn(50).astype(BRAIN)

    (found,) = evaluate("Cast", {"to": to}, [x])

    assert found.dtype == dtype
    assert np.array_equal(found, to_numpy(to_torch(x).to(getattr(torch, np.dtype(dtype).name))))


def test_a_product_in_bfloat16_is_rounded_once() -> None:
    a, b = drawn(4, 5).astype(BRAIN), drawn(5).astype(BRAIN)

    (found,) = evaluate("Mul", {}, [a, b])

    assert found.dtype == BRAIN
    assert np.array_equal(found, to_numpy(to_torch(a) * to_torch(b)))


def test_a_transposition_of_bfloat16_moves_the_bits() -> None:
    a = drawn(2, 3, 4).astype(BRAIN)

    (found,) = evaluate("Transpose", {"perm": (2, 0, 1)}, [a])

    assert found.dtype == BRAIN
    assert np.array_equal(found.view(np.uint16), a.view(np.uint16).transpose(2, 0, 1))


def test_what_no_evaluator_has_says_so() -> None:
    with pytest.raises(CannotEvaluate):
        evaluate("my.own::Mul", {}, [drawn(2).astype(BRAIN)])


@pytest.mark.parametrize("shape", [(1,), (1, 1), ()])
def test_one_number_becomes_a_tensor_of_rank_0(shape: tuple[int, ...]) -> None:
    text = f"""<ir_version: 10, opset_import: ["" : 23]>
        g (float[{",".join(map(str, shape))}] x) => (float y) {{
            s = Constant <value = int64[0] {{}}> ()
            y = Reshape (x, s)
        }}"""
    program = torch_program(from_proto(onnx.parser.parse_model(text)))

    (found,) = program(torch.full(shape, 3.0))

    assert found.shape == ()
    assert float(found) == 3.0
    if shape:
        with pytest.raises(RuntimeError):
            program(torch.ones((2, *shape[1:])))


BOUNDS = (-9, -5, -4, -1, 0, 1, 3, 4, 9)


@pytest.mark.parametrize("step", [-1, -2, -7])
def test_a_slice_that_goes_backwards_is_onnx_s_slice(step: int) -> None:
    """Also where it selects nothing, which torch's own indices do not say."""
    x = torch.arange(8.0).reshape(2, 4)
    empty = 0
    for start in BOUNDS:
        for end in BOUNDS:
            (wanted,) = evaluate("Slice", {}, [x.numpy(), *(np.asarray([n]) for n in (start, end, 1, step))])
            found = sliced(x, [start], [end], [1], [step])
            assert np.array_equal(wanted, found.numpy()), (start, end)
            assert wanted.shape == tuple(found.shape), (start, end)
            empty += not backward(start, end, step, 4)
    assert 0 < empty < len(BOUNDS) ** 2


def test_slices_of_nothing_keep_the_other_axes_and_the_dtype() -> None:
    found = sliced(torch.ones(3, 4, dtype=torch.float16), [0, 0], [3, 2], [1, 0], [-1, 1])

    assert found.shape == (2, 0)
    assert found.dtype == torch.float16
