"""Products count by what they multiply, in whatever numbers they do it."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from tamago.compiler.flops import node_flops


def value(name: str, shape: tuple[int, ...]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


def counted(op: str, domain: str, shapes: list[tuple[int, ...]], result: tuple[int, ...]) -> int | None:
    node = ir.Node(domain, op, [value(f"i{n}", shape) for n, shape in enumerate(shapes)])
    node.outputs[0].shape = ir.Shape(result)
    return node_flops(node)


@pytest.mark.parametrize(
    ("op", "domain", "shapes"),
    [
        ("MatMul", "", [(4, 8), (8, 16)]),
        ("MatMulInteger", "", [(4, 8), (8, 16)]),
        ("MatMulIntegerToFloat", "com.microsoft", [(4, 8), (8, 16), (), (16,)]),
        ("DynamicQuantizeMatMul", "com.microsoft", [(4, 8), (8, 16), (16,)]),
        ("MatMulNBits", "com.microsoft", [(4, 8), (16, 1, 16), (16,)]),
        ("QLinearMatMul", "", [(4, 8), (), (), (8, 16), (16,), (16,), (), ()]),
        ("QGemm", "com.microsoft", [(4, 8), (), (), (8, 16), (16,), (16,)]),
        ("Gemm", "", [(4, 8), (8, 16)]),
    ],
)
def test_a_product_is_two_operations_for_each_of_its_pairs(op: str, domain: str, shapes: list[tuple[int, ...]]) -> None:
    assert counted(op, domain, shapes, (4, 16)) == 2 * 4 * 8 * 16


@pytest.mark.parametrize(
    ("op", "shapes"),
    [
        ("Conv", [(1, 3, 8, 8), (5, 3, 3, 3)]),
        ("ConvInteger", [(1, 3, 8, 8), (5, 3, 3, 3)]),
        ("QLinearConv", [(1, 3, 8, 8), (), (), (5, 3, 3, 3), (), (), (), ()]),
    ],
)
def test_a_convolution_is_a_filter_for_each_position(op: str, shapes: list[tuple[int, ...]]) -> None:
    assert counted(op, "", shapes, (1, 5, 6, 6)) == 2 * (5 * 6 * 6) * (3 * 3 * 3)


def test_what_is_no_product_is_one_for_each_element() -> None:
    assert counted("Relu", "", [(4, 8)], (4, 8)) == 32
    assert counted("Reshape", "", [(4, 8), (2,)], (8, 4)) == 0
