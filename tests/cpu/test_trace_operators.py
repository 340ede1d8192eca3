"""Operators that torch's own ONNX translation lacks, or translates to something else: traced, and run against torch."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from tamago.compiler.trace import Traced, trace


class Calls(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args)


def traced_like_torch(function: Callable[..., Any], *args: Tensor, opset: int = 18) -> Traced:
    """Trace a function and compare what it gives in ONNX Runtime with what it gives in torch."""
    traced = trace(Calls(function).eval(), args, opset=opset)
    assert traced.signature is not None
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(ir.to_proto(traced.model).SerializeToString(), options)
    found = traced.signature.unflatten(session.run(None, traced.signature.flatten(args, {})))
    pairs = zip(pytree.tree_leaves(found), pytree.tree_leaves(function(*args)), strict=True)
    for ours, wanted in pairs:
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)
    return traced


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def operators(traced: Traced) -> list[str]:
    return [node.op_type for node in traced.model.graph]


# --- constants that are nearly zero or one --------------------------------------------------------------------------


def test_what_keeps_from_dividing_by_zero_stays() -> None:
    """The exporter's clean-up takes 1e-9 for zero."""
    traced_like_torch(lambda x: x / (x.sum(-1, keepdim=True) + 1e-9), torch.zeros(2, 3))
    traced_like_torch(lambda x: (x + 1e-10).log(), torch.zeros(2, 3))
    traced_like_torch(lambda x: 1 / (x - 1e-9), torch.zeros(2, 3))


def test_a_factor_that_is_nearly_one_stays() -> None:
    traced_like_torch(lambda x: (x * 1.000008 - x) * 1e5, seeded(2, 3))
    traced_like_torch(lambda x: (x / 1.000008 - x) * 1e5, seeded(2, 3))


# --- arguments that torch's translation ignores ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [0.5, 1.7])
@pytest.mark.parametrize("recompute", [False, True])
def test_smoothed_resizing_goes_by_the_scale_that_was_given(mode: str, scale: float, recompute: bool) -> None:
    def resized(x: Tensor) -> Tensor:
        options: dict[str, Any] = {"mode": mode, "antialias": True, "recompute_scale_factor": recompute}
        return functional.interpolate(x, scale_factor=scale, **options)

    traced_like_torch(resized, seeded(1, 2, 17, 23))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_are_smoothed(reduction: str, weighted: bool) -> None:
    def loss(x: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(
            x, target, torch.arange(1.0, 6.0) if weighted else None, None, 2, None, reduction, 0.1
        )

    traced_like_torch(loss, seeded(4, 5), torch.tensor([0, 2, 4, 1]))
    traced_like_torch(loss, seeded(3, 5, 2), torch.tensor([[0, 2], [4, 1], [2, 2]]))


def test_the_loss_of_a_single_sample() -> None:
    traced_like_torch(functional.cross_entropy, seeded(5), torch.tensor(3))


def test_unsmoothed_labels_keep_onnxs_operator() -> None:
    traced = traced_like_torch(functional.cross_entropy, seeded(4, 5), torch.tensor([0, 2, 4, 1]))
    assert "SoftmaxCrossEntropyLoss" in operators(traced)


@pytest.mark.parametrize(("least", "most"), [(-7, 100), (-127, 127), (-128, 127)])
def test_codes_keep_to_their_range(least: int, most: int) -> None:
    import_module("torch.ao.quantization.fx._decomposed")  # registers the operators of converted models
    quantized = torch.ops.quantized_decomposed

    def there_and_back(x: Tensor) -> Tensor:
        codes = quantized.quantize_per_tensor(x, 0.01, 3, least, most, torch.int8)
        return quantized.dequantize_per_tensor(codes, 0.01, 3, least, most, torch.int8)

    traced = traced_like_torch(there_and_back, seeded(40, 5))
    assert ("Clip" in operators(traced)) == (least != -128)


@pytest.mark.parametrize(("least", "most"), [(0, 15), (-8, 7), (-128, 127)])
def test_fake_quantisation_to_any_range(least: int, most: int) -> None:
    scales, zeros = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0, 1, 2], dtype=torch.int32)
    traced_like_torch(lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 3, least, most), seeded(40, 3))
    traced_like_torch(lambda x: torch.fake_quantize_per_channel_affine(x, scales, zeros, 1, least, most), seeded(40, 3))


# --- what overflows or has no kernel --------------------------------------------------------------------------------


def test_the_logarithm_of_a_sigmoid_does_not_underflow() -> None:
    traced_like_torch(functional.logsigmoid, torch.tensor([-300.0, -90.0, -1.0, 0.0, 1.0, 90.0]))


def test_a_spectrum_goes_back_to_a_signal() -> None:
    """Its frames are added up at 32-bit places, by which ONNX Runtime does not scatter."""
    window = torch.hann_window(32)

    def masked(x: Tensor) -> Tensor:
        spectrum = torch.stft(x, 32, 8, window=window, return_complex=True)
        return torch.istft(spectrum * spectrum.abs().sigmoid(), 32, 8, window=window, length=256)

    traced_like_torch(masked, seeded(2, 256))


# --- rows of attention that may see nothing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opset", "hidden"),
    [(18, None), (18, -torch.inf), (18, torch.finfo(torch.float32).min), (23, None), (23, -torch.inf)],
)
def test_attention_of_a_row_without_keys(opset: int, hidden: float | None) -> None:
    """In torch 0 is the result of a row of padding, the mean that of one whose scores are only very low."""

    def attended(q: Tensor, mask: Tensor) -> Tensor:
        mask = mask if hidden is None else torch.where(mask, 0.0, hidden)
        return functional.scaled_dot_product_attention(q, q, q, attn_mask=mask)

    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    mask[1, :, :2] = False
    traced = traced_like_torch(attended, seeded(2, 4, 5, 8), mask, opset=opset)
    assert ("Attention" in operators(traced)) == (opset == 23)


def test_attention_without_a_mask_needs_no_guard() -> None:
    traced = traced_like_torch(lambda q: functional.scaled_dot_product_attention(q, q, q), seeded(2, 4, 5, 8))
    assert "IsNaN" not in operators(traced)


# --- complex numbers ------------------------------------------------------------------------------------------------


def written(z: Tensor) -> Tensor:
    out = torch.zeros(2, 5, 6, dtype=torch.complex64)
    out[:, :3, :4] = z
    out[:, -1, 0] = 2 * z[:, 0, 0]
    out[:, 3] = 0
    return out


WEIGHT = torch.complex(torch.linspace(-1, 1, 20).reshape(4, 5), torch.linspace(1, 0, 20).reshape(4, 5))
OF_COMPLEX: dict[str, Callable[[Tensor], Any]] = {
    "slices written": written,
    "einsum": lambda z: torch.einsum("bij,jk->bik", z, WEIGHT),
    "einsum of one": lambda z: torch.einsum("bij->bji", z),
    "einsum of three": lambda z: torch.einsum("bij,bij,bij->bi", z, z, z),
    "linear": lambda z: functional.linear(z, WEIGHT.T.contiguous(), WEIGHT[0]),
    "addmm": lambda z: torch.addmm(WEIGHT[0], z[0], WEIGHT, beta=2),
    "baddbmm": lambda z: torch.baddbmm(z[..., :3], z, z.transpose(1, 2)),
    "addcmul": lambda z: torch.addcmul(z, z, z, value=3),
    "square": lambda z: z**2,
    "power": lambda z: z**1.5,
    "square root": lambda z: z.sqrt(),
    "logarithm": lambda z: z.log(),
    "sine and cosine": lambda z: (z.sin(), z.cos()),
    "chunks": lambda z: z.chunk(2, -1),
    "unbound": lambda z: z.unbind(1),
    "running sum": lambda z: z.cumsum(1),
    "gathered": lambda z: z.gather(1, torch.ones(2, 1, 4, dtype=torch.int64)),
    "added by index": lambda z: torch.zeros_like(z).index_add(1, torch.tensor([0, 0, 1]), z),
    "masked": lambda z: z.masked_fill(z.real > 0, 2 - 1j),
    "padded": lambda z: functional.pad(z, (1, 2)),
    "padded by reflection": lambda z: functional.pad(z, (1, 2), mode="reflect"),
    "diagonal": lambda z: (z.diagonal(dim1=1, dim2=2), z.tril()),
    "windows": lambda z: z.unfold(2, 2, 1),
    "made": lambda z: (torch.ones_like(z) * z, torch.full((2, 3, 4), 1 + 2j) + z, z.new_zeros(2, 1, 4) + z),
    "compared": lambda z: (z == z.conj(), z.isnan()),
    "norm": lambda z: (torch.linalg.vector_norm(z), z.norm(dim=-1)),
    "a real one beside i": lambda z: (z.real * 1j, z.real - (2 + 1j), z.imag / 2j),
}


@pytest.mark.parametrize("name", OF_COMPLEX)
def test_complex_numbers(name: str) -> None:
    function = OF_COMPLEX[name]
    traced_like_torch(lambda a, b: function(torch.complex(a, b)), seeded(2, 3, 4), seeded(2, 3, 4).flip(0))
