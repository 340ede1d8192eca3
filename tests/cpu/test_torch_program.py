"""What `torch_program` promises beyond values: names, plain calls, gradients, export, devices, errors."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import parser
from torch import Tensor, nn

from tamago.compiler import torch_operators
from tamago.compiler.errors import TamagoError
from tamago.compiler.torch_program import torch_program, unsupported
from tamago.compiler.trace import trace


def model_of(text: str, opset: int = 18, **weights: np.ndarray[Any, Any]) -> ir.Model:
    """A model of ONNX text, its initializers given as arrays."""
    head = f'<ir_version: 9, opset_import: ["": {opset}, "com.microsoft": 1, "local": 1]>'
    proto = parser.parse_model(head + text)
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return ir.from_proto(proto)


def random(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


class Block(nn.Module):
    """A transformer block."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.into(self.first(x)).reshape(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d)
        x = x + self.out(y)
        return x + self.down(nn.functional.gelu(self.up(self.second(x))))


class Cnn(nn.Module):
    """Convolutions, normalization, pooling, upsampling and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.second, self.up = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.norm(torch.relu(self.first(x))), 2)
        x = nn.functional.interpolate(nn.functional.silu(self.second(x)), scale_factor=2.0, mode="bilinear")
        return self.head(self.up(x).mean((2, 3)))


MODULES = {"block": (Block, (2, 5, 8)), "cnn": (Cnn, (2, 3, 16, 16))}


@pytest.fixture(scope="module", params=["block 18", "block 23", "cnn 18"])
def exported(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, ir.Model]:
    """A module, an input, and the ONNX model that torch exports, with a dynamic batch."""
    name, opset = request.param.split()
    kind, shape = MODULES[name]
    torch.manual_seed(0)
    module, x = kind().eval(), torch.randn(shape)
    with torch.no_grad():
        for parameter in module.parameters():  # equal ones would become one initializer
            parameter.add_(torch.rand_like(parameter) / 10)
    return module, x, trace(module, (x,), dynamic_shapes=({0: "batch"},), opset=int(opset)).model


def test_same_values_for_another_batch(exported: tuple[nn.Module, Tensor, ir.Model]) -> None:
    module, x, model = exported
    program = torch_program(model)

    for batch in (1, 4):
        other = torch.randn(batch, *x.shape[1:])
        torch.testing.assert_close(program(other)[0], module(other), rtol=1e-4, atol=1e-5)


def test_gradients_are_the_modules(exported: tuple[nn.Module, Tensor, ir.Model]) -> None:
    module, x, model = exported
    program = torch_program(model, trainable=True)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()

    program(ours)[0].square().sum().backward()
    module.zero_grad()
    module(theirs).square().sum().backward()

    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)
    # the exporter transposes or folds away some weights
    names: dict[str, str] = program.meta["initializers"]
    kept = {name: parameter for name, parameter in module.named_parameters() if name in names}
    assert len(kept) >= 5
    for name, parameter in kept.items():
        ours_grad, theirs_grad = program.get_parameter(names[name]).grad, parameter.grad
        torch.testing.assert_close(ours_grad, theirs_grad, rtol=1e-3, atol=1e-4)


def test_gradients_are_finite_differences(exported: tuple[nn.Module, Tensor, ir.Model]) -> None:
    _, x, model = exported
    program = torch_program(model).double()

    assert torch.autograd.gradcheck(program, (x[:1].double().requires_grad_(),), fast_mode=True)


def test_exports_with_a_dynamic_batch(exported: tuple[nn.Module, Tensor, ir.Model]) -> None:
    module, x, model = exported

    again = torch.export.export(torch_program(model), (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()

    other = torch.randn(7, *x.shape[1:])
    torch.testing.assert_close(again(other)[0], module(other), rtol=1e-4, atol=1e-5)


def test_ordinary_operators_are_plain_torch_calls() -> None:
    program = torch_program(
        model_of(
            """net (float[N,3,8,8] x) => (float[N,5] y) {
                a = Conv <pads = [1,1,1,1]> (x, w, b)  r = Relu (a)  p = MaxPool <kernel_shape = [2,2]> (r)
                m = GlobalAveragePool (p)  f = Flatten (m)  g = Gemm <transB = 1> (f, v, c)
                h = Constant <value_float = 0.5> ()  s = Mul (g, h)  y = Softmax <axis = -1> (s)
            }""",
            w=random(4, 3, 3, 3),
            b=random(4),
            v=random(5, 4),
            c=random(5),
        )
    )

    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert calls == [
        nn.functional.conv2d,
        torch.relu,
        nn.functional.max_pool2d,
        torch.mean,
        torch.flatten,
        nn.functional.linear,
        torch.mul,
        torch.softmax,
    ]
    assert {"a", "r", "p", "m", "f", "g", "s", "y"} <= {node.name for node in program.graph.nodes}
    assert next(node for node in program.graph.nodes if node.name == "r").meta["onnx"] == ("", "Relu", "")
    assert dict(program.named_buffers()).keys() == {"w", "b", "v", "c"}


def test_names_that_python_does_not_allow() -> None:
    model = model_of(
        """net (float[2] "x/1", float[2] "x.1", float[2] "torch") => (float[2] "for") {
            "for" = Sum ("x/1", "x.1", "torch")
        }"""
    )

    program = torch_program(model)

    assert [node.target for node in program.graph.nodes if node.op == "placeholder"] == ["x_1", "x_1_1", "torch_"]
    assert program.meta["inputs"] == ["x/1", "x.1", "torch"]
    assert program.meta["outputs"] == ["for"]
    assert program(*torch.ones(3, 2))[0].tolist() == [3.0, 3.0]


def test_weights_among_the_inputs_are_frozen() -> None:
    program = torch_program(model_of("net (float[2] x, float[2] w) => (float[2] y) { y = Mul (x, w) }", w=random(2)))

    x = torch.ones(2)
    assert program.meta["inputs"] == ["x"]
    assert torch.equal(program(x)[0], torch.from_numpy(random(2)))


def test_computed_shapes_stay_integers() -> None:
    program = torch_program(
        model_of(
            """net (float[N,T,12] x) => (float[N,M,3,4] y, float[K,L] z) {
                s = Shape (x)  zero = Constant <value_int = 0> ()  n = Gather (s, zero)
                axis = Constant <value_ints = [0]> ()  nn = Unsqueeze (n, axis)
                rest = Constant <value_ints = [-1, 3, 4]> ()
                shape = Concat <axis = 0> (nn, rest)  y = Reshape (x, shape)
                one = Constant <value_int = 1> ()  t = Gather (s, one)  two = Constant <value_int = 2> ()
                half = Div (t, two)  more = Add (half, one)  mm = Unsqueeze (more, axis)
                both = Concat <axis = 0> (nn, mm)  z = ConstantOfShape (both)
            }"""
        )
    )

    for n, t in ((2, 4), (3, 7)):
        y, z = program(torch.randn(n, t, 12))
        assert (y.shape, z.shape) == ((n, t, 3, 4), (n, t // 2 + 1))
    # no tensor is made of a size, so no device is waited for
    assert torch.tensor not in {node.target for node in program.graph.nodes}
    program.to("meta")
    y, z = program(torch.randn(2, 4, 12, device="meta"))
    assert (y.device.type, z.device.type) == ("meta", "meta")


def test_sizes_become_tensors_where_arithmetic_on_tensors_needs_them() -> None:
    program = torch_program(
        model_of(
            """net (float[N,C] x) => (float[N,C] y, int64[2] s) {
                s = Shape (x)  one = Constant <value_int = 1> ()  c = Gather (s, one)
                f = Cast <to = 1> (c)  r = Sqrt (f)  y = Div (x, r)
            }"""
        )
    )
    x = torch.randn(3, 4)

    y, s = program(x)

    assert s.tolist() == [3, 4]
    torch.testing.assert_close(y, x / 2)
    again = torch.export.export(program, (x,), dynamic_shapes=({1: torch.export.Dim("c")},)).module()
    torch.testing.assert_close(again(torch.ones(3, 9))[0], torch.ones(3, 9) / 3)


def test_runs_wholly_on_the_device_of_its_inputs() -> None:
    """Torch refuses to mix devices, so a run on `meta` shows that every constant moved along."""
    program = torch_program(
        model_of(
            """net (int64[N,T] ids) => (float[N,T,4] y) {
                s = Shape (ids)  one = Constant <value_int = 1> ()  t = Gather (s, one)
                zero = Constant <value_int = 0> ()  places = Range (zero, t, one)
                words = Gather (table, ids)  where = Gather (positions, places)  sum = Add (words, where)
                shift = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]> ()  moved = Mul (sum, shift)
                f = Cast <to = 1> (t)  scaled = Div (moved, f)
                axis = Constant <value_ints = [0]> ()  tt = Unsqueeze (t, axis)  square = Concat <axis = 0> (tt, tt)
                ones = ConstantOfShape <value: tensor = float[1] {1.0}> (square)  mask = Trilu <upper = 0> (ones)
                y = MatMul (mask, scaled)
            }""",
            table=random(9, 4),
            positions=random(6, 4),
        )
    )
    assert program(torch.zeros(2, 5, dtype=torch.int64))[0].shape == (2, 5, 4)

    program.to("meta")
    y = program(torch.zeros(2, 3, dtype=torch.int64, device="meta"))[0]

    assert (y.shape, y.device.type) == ((2, 3, 4), "meta")


def test_functions_are_inlined_and_the_model_is_left_alone() -> None:
    model = model_of(
        """net (float[N] x) => (float[N] y) { a = local.Double (x)  y = local.Double (a) }
        <domain: "local", opset_import: ["": 18]> Double (v) => (w) { w = Add (v, v) }"""
    )
    before = ir.to_proto(model).SerializeToString(deterministic=True)

    program = torch_program(model)

    assert program(torch.tensor([1.0, 2.0]))[0].tolist() == [4.0, 8.0]
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_a_branch_takes_weights_of_the_outer_graph() -> None:
    text = """net (float[2] x, bool c) => (float[2] y) {
        y = If (c) <then_branch = yes () => (float[2] a) { a = Mul (x, w) },
                    else_branch = no () => (float[2] b) { b = Sub (x, w) }>
    }"""
    program = torch_program(model_of(text, w=np.array([2, 3], np.float32)), trainable=True)
    x = torch.ones(2)

    assert program(x, torch.tensor(True))[0].tolist() == [2.0, 3.0]
    assert program(x, torch.tensor(False))[0].tolist() == [-1.0, -2.0]
    program(x, torch.tensor(True))[0].sum().backward()
    assert [name for name, _ in program.named_parameters()] == ["w"]
    assert program.get_parameter("w").grad is not None


def test_a_branch_whose_condition_is_known_is_written_in_place() -> None:
    text = """net (float[2] x) => (float[2] y) {
        c = Constant <value_int = 1> ()  t = Cast <to = 9> (c)
        y = If (t) <then_branch = yes () => (float[2] a) { a = Neg (x) },
                    else_branch = no () => (float[2] b) { b = Exp (x) }>
    }"""
    program = torch_program(model_of(text))

    assert [node.target for node in program.graph.nodes if node.op == "call_function"] == [torch.neg]


def test_gradients_flow_through_loop_and_scan() -> None:
    loop = """net (float[2] x, int64 n) => (float[2] y, float[K,2] all) {
        c = Constant <value_int = 1> ()  t = Cast <to = 9> (c)
        y, all = Loop (n, t, x) <body = step (int64 i, bool go, float[2] v) => (bool on, float[2] next, float[2] out) {
            on = Identity (go)  next = Mul (v, w)  out = Add (v, w)
        }>
    }"""
    program = torch_program(model_of(loop, w=np.array([2, 3], np.float32)))
    x = torch.ones(2, requires_grad=True)

    y, everything = program(x, torch.tensor(3))
    y.sum().backward()

    assert y.tolist() == [8.0, 27.0]
    assert everything.shape == (3, 2)
    assert x.grad is not None
    assert x.grad.tolist() == [8.0, 27.0]
    assert program(x, torch.tensor(0))[1].shape == (0, 2)

    scan = """net (float[2] s, float[T,2] x) => (float[2] y, float[T,2] all) {
        y, all = Scan <num_scan_inputs = 1, body = step (float[2] v, float[2] e) => (float[2] next, float[2] out) {
            next = Add (v, e)  out = Mul (v, e)
        }> (s, x)
    }"""
    steps = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y, everything = torch_program(model_of(scan))(torch.ones(2), steps)
    everything.sum().backward()

    assert y.tolist() == [5.0, 7.0]
    assert steps.grad is not None
    assert steps.grad.tolist() == [[4.0, 5.0], [2.0, 3.0]]


def test_an_unknown_operator_is_named() -> None:
    model = model_of(
        """net (float[2] x, bool c) => (float[2] y) {
            a = local.Strange (x)
            y = If (c) <then_branch = yes () => (float[2] b) { b = local.Stranger (a) },
                        else_branch = no () => (float[2] d) { d = Identity (a) }>
        }"""
    )
    model.graph.node(0).name = "first"

    with pytest.raises(TamagoError, match="first") as raised:
        torch_program(model)
    assert raised.value.code == "B010"
    assert [problem.split(" ")[1] for problem in unsupported(model)] == ["local::Strange", "local::Stranger"]


@pytest.mark.parametrize(
    "body",
    [
        "y = Conv (x)",
        "y = Cast (x)",
        "y = Gather (x)",
        "y = If (x)",
        'y = FusedConv <activation = "Strange"> (x, w)',
        'y = Constant <value_string = "text"> ()',
    ],
)
def test_a_malformed_node_is_the_users_error(body: str) -> None:
    model = model_of(f"net (float[2] x) => (float[2] y) {{ {body} }}", w=random(2))
    if "Fused" in body:
        model.graph.node(0).domain = "com.microsoft"

    with pytest.raises(TamagoError) as raised:
        torch_program(model)
    assert raised.value.code == "B010"


def test_nodes_out_of_order_are_the_users_error() -> None:
    with pytest.raises(TamagoError) as raised:
        torch_program(model_of("net (float[2] x) => (float[2] y) { y = Neg (a)  a = Exp (x) }"))
    assert raised.value.code == "B011"


def test_everything_supported_means_an_empty_list(exported: tuple[nn.Module, Tensor, ir.Model]) -> None:
    assert unsupported(exported[2]) == []


def test_copies_and_state_are_those_of_any_module() -> None:
    model = model_of("net (float[2] x) => (float[2] y) { y = Mul (x, w) }", w=random(2))
    program, other = torch_program(model), torch_program(model)
    twin = copy.deepcopy(program)
    other.load_state_dict({"w": torch.ones(2)})

    x = torch.ones(2)
    assert torch.equal(twin(x)[0], program(x)[0])
    assert twin.meta["initializers"] == {"w": "w"}
    assert torch.equal(other(x)[0], x)


def test_narrow_types_cross_the_border() -> None:
    """4-bit weights, in blocks, as quantizers write them."""
    codes = np.arange(-8, 8, dtype=np.int8).reshape(4, 4)
    scale = np.array([[0.5, 1.0, 2.0, 4.0], [1.0, 1.0, 1.0, 1.0]], np.float32)
    model = model_of(
        """net (float[N,4] x) => (float[N,4] y) {
            w = DequantizeLinear <axis = 0, block_size = 2> (c, s)  y = MatMul (x, w)
        }""",
        opset=21,
        s=scale,
    )
    tensor = onnx.helper.make_tensor("c", onnx.TensorProto.INT4, [4, 4], codes.reshape(-1).tolist())
    proto = ir.to_proto(model)
    proto.graph.initializer.append(tensor)

    y = torch_program(ir.from_proto(proto))(torch.eye(4))[0]

    np.testing.assert_array_equal(y.numpy(), codes * np.repeat(scale, 2, 0))


def test_every_family_is_listed() -> None:
    """A file that registers rules takes part only when the package's `__init__` lists it."""
    folder = Path(torch_operators.__file__).parent
    registering = {path.stem for path in folder.glob("*.py") if "operator(" in path.read_text(encoding="utf-8")}
    registering -= {"registry"}

    assert {family.__name__.rpartition(".")[2] for family in torch_operators.FAMILIES} == registering
    for name in registering:
        assert importlib.import_module(f"{torch_operators.__name__}.{name}").__doc__
