"""The kernel of attention over whole sequences, in Triton's interpreter, and which nodes come to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip("tests/gpu runs it on the device", allow_module_level=True)

from tamago.backends.triton.jobs import AttentionJob
from tamago.backends.triton.kernels import attention as kernel
from tamago.backends.triton.launch.attention import fits, launch_attention
from tamago.backends.triton.library.attention import attended
from tamago.backends.triton.lowering import ATTENTION
from tamago.backends.triton.run import Program
from tamago.compiler.torch_operators.attention import full_attention
from tests.triton.guarded import Guarded

TOLERANCE = 2e-3  # of the largest result: the kernel's operands and results are halves
SMALL, LARGE = (16, 64, 4, 3), (64, 128, 4, 2)


@pytest.fixture(autouse=True)
def interpreting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half()


@dataclass(frozen=True)
class Shape:
    """Attention of a batch of texts: heads of queries and of keys, their numbers, and a head's size."""

    batch: int
    heads: int
    shared: int
    queries: int
    keys: int
    size: int
    causal: bool = False
    scale: float | None = None

    def __str__(self) -> str:
        sizes = "x".join(str(n) for n in (self.batch, self.heads, self.shared, self.queries, self.keys, self.size))
        return f"{sizes}-causal" if self.causal else sizes

    @property
    def counts(self) -> tuple[int, int]:
        return self.heads * self.shared, self.heads


def exact(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, shape: Shape) -> Tensor:
    """In double precision, by the definition; operands as they are given."""
    mask = mask if mask is None or mask.dtype == torch.bool else mask.double()
    settings = shape.causal, (-1, -1), 0.0, shape.scale, None
    found = full_attention(q.double(), k.double(), v.double(), mask, (None, None), None, shape.counts, settings, 0)
    return found[0]


def check(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=TOLERANCE * float(wanted.abs().max()))


def packed(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Of three axes: slices of one tensor where there are as many queries as keys."""
    widths = [n * shape.size for n in (shape.counts[0], shape.heads, shape.heads)]
    if shape.queries == shape.keys:
        q, k, v = draw(0, shape.batch, shape.keys, sum(widths)).split(widths, 2)
        assert not q.is_contiguous() or shape.keys == 1
        return q, k, v
    lengths = shape.queries, shape.keys, shape.keys
    q, k, v = (draw(i, shape.batch, n, w) for i, (n, w) in enumerate(zip(lengths, widths, strict=True)))
    return q, k, v


SHAPES = (
    (Shape(1, 2, 1, 197, 197, 64), LARGE),
    (Shape(1, 1, 1, 197, 197, 64), SMALL),
    (Shape(2, 2, 1, 20, 20, 16), (16, 32, 1, 3)),
    (Shape(1, 2, 1, 1, 300, 64), SMALL),
    (Shape(2, 1, 2, 33, 300, 16), (32, 128, 4, 2)),
    (Shape(2, 1, 2, 70, 70, 72, causal=True), (32, 32, 2, 3)),
    (Shape(1, 1, 3, 100, 40, 16, causal=True), (32, 32, 2, 3)),
    (Shape(1, 1, 1, 40, 100, 16, causal=True), (64, 32, 4, 3)),
    (Shape(1, 1, 1, 130, 130, 16, causal=True, scale=0.7), (128, 32, 4, 3)),
    (Shape(1, 1, 1, 5, 64, 256, scale=0.02), SMALL),
    (Shape(1, 2, 1, 9, 3, 24), SMALL),
)


@pytest.mark.parametrize(("shape", "candidate"), SHAPES, ids=str)
def test_attention_is_what_the_definition_says(shape: Shape, candidate: tuple[int, ...]) -> None:
    q, k, v = packed(shape)
    rest = None, shape.counts, shape.causal, shape.scale

    assert fits(q, k, v, *rest)
    check(launch_attention(q, k, v, *rest, candidate), exact(q, k, v, None, shape))


@pytest.mark.parametrize("causal", [False, True])
def test_heads_may_come_first(causal: bool) -> None:
    """In any order of memory; the result's heads lie beside one another."""
    shape = Shape(2, 2, 2, 19, 21, 16, causal)
    q = draw(0, 2, 19, 4, 16).transpose(1, 2)
    k, v = draw(1, 2, 2, 21, 16), draw(2, 2, 2, 16, 21).transpose(2, 3)
    rest = None, (0, 0), causal, None

    found = launch_attention(q, k, v, *rest, SMALL)

    check(found, exact(q, k, v, None, shape))
    assert found.transpose(1, 2).is_contiguous()


MASKS: tuple[tuple[int, ...], ...] = ((2, 2, 19, 40), (2, 1, 1, 40), (19, 40), (2, 1, 1))


@pytest.mark.parametrize("boolean", [False, True])
@pytest.mark.parametrize("sizes", MASKS, ids=str)
def test_a_mask_reaches_all_that_it_broadcasts_to(sizes: tuple[int, ...], boolean: bool) -> None:
    shape = Shape(2, 1, 2, 19, 40, 16)
    q, k, v = packed(shape)
    mask = draw(3, *sizes) > -1 if boolean else 3 * draw(3, *sizes)
    mask[..., 0] = True
    seen = mask.expand(2, 2, 19, 40)
    rest = shape.counts, False, None

    check(launch_attention(q, k, v, mask, *rest, (32, 32, 2, 3)), exact(q, k, v, seen, shape))


@pytest.mark.parametrize("least", [-torch.inf, torch.finfo(torch.float16).min, torch.finfo(torch.float32).min])
def test_hidden_keys_count_for_nothing(least: float) -> None:
    """A query that sees none yields zeros; where all keys get the least number there is, none is hidden."""
    shape = Shape(1, 2, 1, 6, 70, 16)
    q, k, v = packed(shape)
    mask = torch.zeros(6, 70)
    mask[0], mask[1, :66], mask[2, 4:], mask[3, ::2] = least, least, least, least
    mask = mask if least < -1e5 and least != -torch.inf else mask.half()

    found = launch_attention(q, k, v, mask, shape.counts, False, None, (16, 32, 2, 3))

    check(found, exact(q, k, v, mask.expand(1, 2, 6, 70), shape))
    assert bool((found[0, 0] == 0).all()) is (least == -torch.inf)


def test_what_lies_beyond_is_neither_read_nor_written(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = Guarded(monkeypatch)
    room = torch.full((1, 64, 3 * 16), float("nan")).half()
    room[:, :20] = draw(0, 1, 20, 48)
    q, k, v = room[:, :20].split(16, 2)
    shape = Shape(1, 1, 1, 20, 20, 16)

    check(launch_attention(q, k, v, None, (1, 1), False, None, SMALL), exact(q, k, v, None, shape))
    assert guarded.untouched()


def test_what_the_kernel_is_not_for() -> None:
    q, k, v = (draw(i, 1, 2, 5, 16) for i in range(3))
    mask, rest = torch.ones(5, 5, dtype=torch.bool), ((0, 0), False, None)

    assert fits(q, k, v, mask, *rest)
    assert not fits(q.float(), k.float(), v.float(), None, *rest)
    assert not fits(q, k, draw(2, 1, 2, 5, 32), None, *rest)
    assert not fits(q[..., :8], k[..., :8], v[..., :8], None, *rest)
    wide = torch.cat([q] * 17, 3)
    assert not fits(wide, wide, wide, None, *rest)
    assert not fits(q, k, v, mask, (0, 0), True, None)
    assert not fits(q, k, v, None, (0, 0), False, -0.5)
    assert not fits(q, k[:, :, :0], v[:, :, :0], None, *rest)
    assert not fits(q, k.repeat(2, 1, 1, 1), v.repeat(2, 1, 1, 1), None, *rest)


def test_places_are_numbers_of_32_bits() -> None:
    """Where queries lie far apart, or a mask of all scores is large, torch's own operator stays."""
    rest = (0, 0), False, None
    q, k, v = (torch.empty(1, 4, 1 << 14, 16, dtype=torch.float16, device="meta") for _ in range(3))
    apart = torch.empty_strided((1, 4, 1 << 14, 16), (0, 1 << 30, 16, 1), dtype=torch.float16, device="meta")

    assert fits(q, k, v, None, *rest)
    assert fits(q, k, v, torch.empty(1, 1 << 14, device="meta"), *rest)
    assert not fits(q, k, v, torch.empty_strided((4, 1 << 14, 1 << 14), (1 << 30, 1 << 14, 1), device="meta"), *rest)
    assert not fits(apart, k, v, None, *rest)


@pytest.mark.parametrize(
    ("heads", "queries", "keys", "size"), [(6, 197, 197, 64), (1, 1, 1, 16), (512, 4096, 4096, 256)]
)
def test_there_are_a_few_candidates_and_each_is_another(heads: int, queries: int, keys: int, size: int) -> None:
    found = kernel.candidates(heads, queries, keys, size, causal=True)

    assert 0 < len(found) <= kernel.MOST_CANDIDATES
    assert len(set(found)) == len(found)
    assert all(2 * size * (rows + 2 * columns * stages) <= kernel.SHARED for rows, columns, _, stages in found)


def test_little_work_is_cut_small_and_much_is_not() -> None:
    """All 132 processors should have something to do, and each key should be read seldom."""
    assert kernel.candidates(6, 197, 197, 64, causal=False)[0][0] == 16
    assert kernel.candidates(2048, 1024, 1024, 64, causal=False)[0][0] >= 64


Sizes = tuple[int | str, ...]


def program(
    kind: ir.DataType = ir.DataType.FLOAT16,
    q: Sizes = (1, 5, 64),
    k: Sizes = (1, 7, 32),
    mask: Sizes | None = None,
    past: bool = False,
    results: int = 1,
    version: int = 23,
    **attributes: Any,
) -> tuple[Program, ir.Node, ir.Model]:
    """An Attention of four heads of queries and two of keys as the target makes a program of it."""

    def value(name: str, sizes: Sizes, of: ir.DataType = kind) -> ir.Value:
        return ir.Value(name=name, shape=ir.Shape(sizes), type=ir.TensorType(of))

    inputs: list[ir.Value | None] = [value("q", q), value("k", k), value("v", k)]
    inputs.append(None if mask is None else value("mask", mask, ir.DataType.BOOL))
    inputs += [value(n, (1, 2, 3, 16)) for n in ("past_k", "past_v")] if past else []
    outputs = [value(f"y{i}", q) if i == 0 else ir.Value(name=f"y{i}") for i in range(results)]
    heads = {"q_num_heads": 4, "kv_num_heads": 2} if len(q) == 3 else {}
    node = ir.node("Attention", inputs, heads | attributes, outputs=outputs, name="attend")
    given = [v for v in inputs if v is not None]
    graph = ir.Graph(given, outputs[:1], nodes=[node], opset_imports={"": version}, name="g")
    model = ir.Model(graph, ir_version=10)
    return Program(model, device="cpu"), node, model


def calls(found: Program) -> list[Any]:
    return list(found.module.graph.find_nodes(op="call_function", target=ATTENTION))


TAKEN: tuple[dict[str, Any], ...] = (
    {},
    {"kind": ir.DataType.BFLOAT16, "is_causal": 1, "scale": 0.5},
    {"mask": (5, 7)},
    {"mask": (5, 7), "version": 24},
    {"q": (2, 4, 5, 16), "k": (2, 2, 7, 16)},
    {"softmax_precision": 1},
)
LEFT: tuple[dict[str, Any], ...] = (
    {"kind": ir.DataType.FLOAT},
    {"past": True},
    {"softcap": 3.0},
    {"results": 3},
    {"results": 4},
    {"mask": (5, 7), "is_causal": 1},
    {"mask": (5, 6), "version": 24},
    {"softmax_precision": 11},
)


@pytest.mark.parametrize("case", TAKEN, ids=str)
def test_whole_attention_of_halves_is_taken_over(case: dict[str, Any]) -> None:
    found, node, _ = program(**case)
    (call,) = calls(found)
    job = AttentionJob.of_call(found.module, call, node)

    assert job is not None
    sizes = job.batch, job.heads, job.shared, job.queries, job.keys, job.size
    assert sizes == (2 if "q" in case else 1, 2, 2, 5, 7, 16)
    assert (job.causal, job.mask) == (bool(case.get("is_causal")), case.get("mask", ()))
    assert job.candidates()[0][0] == 0


@pytest.mark.parametrize("case", LEFT, ids=str)
def test_other_attention_stays_with_torch(case: dict[str, Any]) -> None:
    assert not calls(program(**case)[0])


UNKNOWN: tuple[dict[str, Any], ...] = (
    {"q": ("batch", 5, 64)},
    {"k": (1, "length", 32)},
    {"q": (1, 5, 32), "k": (1, 7, 16)},
    {"scale": -1.0},
)


@pytest.mark.parametrize("case", UNKNOWN, ids=str)
def test_sizes_not_known_ahead_and_heads_too_small_are_not_measured(case: dict[str, Any]) -> None:
    found, node, _ = program(**case)
    (call,) = calls(found)

    assert AttentionJob.of_call(found.module, call, node) is None


@pytest.mark.parametrize("case", [TAKEN[0], TAKEN[4], LEFT[2]], ids=str)
def test_the_program_computes_what_the_operator_means(case: dict[str, Any]) -> None:
    found, *_ = program(**case)
    sizes = case.get("q", (1, 5, 64)), case.get("k", (1, 7, 32))
    q, k, v = draw(0, *sizes[0]), draw(1, *sizes[1]), draw(2, *sizes[1])
    settings = False, (-1, -1), float(case.get("softcap", 0.0)), None, None
    wanted = full_attention(q.double(), k.double(), v.double(), None, (None, None), None, (4, 2), settings, 0)[0]

    (y,) = found.run([q, k, v])

    check(y, wanted)


def test_slices_of_one_tensor_are_measured_as_such() -> None:
    kind = ir.TensorType(ir.DataType.FLOAT16)
    x = ir.Value(name="x", shape=ir.Shape((2, 9, 128)), type=kind)
    widths = (64, 32, 32)
    parts = [ir.Value(name=f"p{w}{i}", shape=ir.Shape((2, 9, w)), type=kind) for i, w in enumerate(widths)]
    sizes = ir.Value(name="sizes", const_value=ir.tensor(list(widths)), shape=ir.Shape((3,)))
    split = ir.node("Split", [x, sizes], {"axis": 2}, outputs=parts)
    y = ir.Value(name="y", shape=ir.Shape((2, 9, 64)), type=kind)
    node = ir.node("Attention", parts, {"q_num_heads": 4, "kv_num_heads": 2}, outputs=[y], name="attend")
    graph = ir.Graph([x], [y], nodes=[split, node], initializers=[sizes], opset_imports={"": 23}, name="g")
    found = Program(ir.Model(graph, ir_version=10), device="cpu")
    (call,) = calls(found)
    job = AttentionJob.of_call(found.module, call, node)
    assert job is not None
    assert job.merged

    given = draw(0, 2, 9, 128)
    (result,) = found.run([given])

    q, k, v = given.split(widths, 2)
    assert torch.equal(result, attended(q, k, v, None, [4, 2], False, None))
