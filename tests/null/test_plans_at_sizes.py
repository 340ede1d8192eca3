"""Plans laid out together: each still computes what it did alone, and what is equal is there once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tamago.backends.webgpu.bundle import write_bundle
from tamago.backends.webgpu.lowering import plan_of
from tamago.backends.webgpu.plan import Choice, Copy, Dispatch, Interface, Kernel, Plan
from tamago.backends.webgpu.sizes import Plans, together

Weights = Mapping[str, Any]


def meaning(plan: Plan, weights: Weights) -> dict[str, str]:
    """What each output is made of: the weights' contents, the inputs' names, and every kernel on the way."""
    held = {number: _digest(weights[name].dtype.name, weights[name].tobytes()) for number, name in plan.weights.items()}
    held |= {i.buffer: _digest("input", i.name) for i in plan.inputs}
    for step in (*plan.setup, *plan.steps):
        if isinstance(step, Copy):
            held[step.target] = _digest("copy", held[step.source], step.bytes)
            continue
        kernels = [(plan.kernels[c.kernel], c.workgroups) for c in step.choices]
        terms = [held.get(b, "") for b in step.buffers]
        written = [b for b, is_written in zip(step.buffers, kernels[0][0].written, strict=True) if is_written]
        held |= {b: _digest(kernels, terms, number) for number, b in enumerate(written)}
    return {o.name: held[o.buffer] for o in plan.outputs}


def _digest(*what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()


def check(found: Sequence[tuple[dict[str, int], tuple[Plan, Weights]]]) -> tuple[Plans, dict[str, Any]]:
    """Lay out, and compare each plan with what it was."""
    plans, weights = together(found)
    for laid, (_, (plan, own)) in zip(plans.plans, found, strict=True):
        assert meaning(laid, weights) == meaning(plan, own)
        assert (laid.weights, laid.kernels, laid.setup) == tuple(
            getattr(plans.plans[0], name) for name in ("weights", "kernels", "setup")
        )
        assert laid.buffers[: plans.shared] == plans.plans[0].buffers[: plans.shared]
        assert [replace(i, buffer=0) for i in laid.inputs] == [replace(i, buffer=0) for i in plan.inputs]
        assert {laid.buffers[i.buffer] for i in laid.outputs} == {plan.buffers[i.buffer] for i in plan.outputs}
    return plans, weights


def wide(n: int, *, again: bool = False, first: float = 1.0) -> tuple[Plan, Weights]:
    """A weight that the setup makes wide, in place where it is done again, and multiplied by n rows; a mask of n."""
    kernels = (
        Kernel("widen", (False, True)),
        Kernel(f"multiply {n}", (False, False, False, True)),
        Kernel("more", (False, True)),
    )
    more = (Dispatch("More", (1, 2), (Choice(2, (n, 1, 1)),)),) if again else ()
    plan = Plan(
        buffers=(8, 8, 16, 4 * n, 4 * n, 4 * n, 32),
        weights={0: "w", 1: "b", 3: "mask"},
        kernels=kernels,
        steps=(Dispatch("Mul", (2, 3, 4, 5), (Choice(1, (n, 1, 1)),)),),
        inputs=(Interface("x", 4, (n,), "float32", "f32"), Interface("old", 6, (8,), "float32", "f32")),
        outputs=(Interface("y", 5, (n,), "float32", "f32"), Interface("new", 6, (8,), "float32", "f32")),
        state={"new": "old"},
        setup=(Dispatch("Widen", (0, 2), (Choice(0, (1, 1, 1)),)), *more),
    )
    half = np.array([first, 2, 3, 4], np.float16)
    return plan, {"w": half, "b": np.ones(2, np.float32), "mask": np.arange(n, dtype=np.float32)}


def test_what_is_equal_is_there_once() -> None:
    plans, weights = check([({"n": n}, wide(n)) for n in (2, 4, 8)])

    assert sorted(weights) == ["b", "mask", "mask/4", "mask/5", "w"]  # only what differs, differs
    assert [weights[n].size for n in ("mask", "mask/4", "mask/5")] == [2, 4, 8]
    assert [s.label for s in plans.plans[0].setup if isinstance(s, Dispatch)] == ["Widen"]
    assert len(plans.plans[0].kernels) == 4  # the one that widens, and one a size that multiplies
    assert len({next(i.buffer for i in p.inputs if i.name == "old") for p in plans.plans}) == 1
    assert plans.spent == sorted(n for n, name in plans.plans[0].weights.items() if name in ("w", "b"))
    assert plans.sizes == ({"n": 2}, {"n": 4}, {"n": 8})
    assert plans.prints == tuple(wide(n)[0].fingerprint for n in (2, 4, 8))


def test_what_differs_is_not_shared() -> None:
    """Neither weights of other contents nor what is made of them."""
    plans, weights = check([({"n": 2}, wide(2)), ({"n": 4}, wide(4, first=7.0))])

    assert len([name for name in weights if name.startswith("w")]) == 2
    assert len(plans.plans[0].setup) == 2


def test_what_one_size_writes_in_place_is_its_own() -> None:
    plans, _ = check([({"n": 2}, wide(2, again=True)), ({"n": 4}, wide(4, again=True)), ({"n": 8}, wide(8))])

    assert [s.label for s in plans.plans[0].setup if isinstance(s, Dispatch)] == ["Widen", "More"] * 2 + ["Widen"]


def test_a_state_of_another_shape_is_another_state() -> None:
    plan, weights = wide(4)
    longer = replace(
        plan, buffers=(*plan.buffers[:6], 64), inputs=(plan.inputs[0], replace(plan.inputs[1], shape=(16,)))
    )
    plans, _ = check([({"n": 2}, wide(2)), ({"n": 4}, (longer, weights))])

    assert all(i.buffer >= plans.shared for p in plans.plans for i in p.inputs)


def test_equal_weights_of_one_plan_are_one() -> None:
    plan, weights = wide(2)
    both = replace(plan, buffers=(*plan.buffers, 8), weights={**plan.weights, 7: "mask of the same"})
    plans, stored = check([({"n": 2}, (both, {**weights, "mask of the same": weights["mask"]}))])

    assert sorted(stored) == ["b", "mask", "w"]
    assert len(plans.plans[0].weights) == 3


def attention(rows: int = 16, features: int = 8) -> ir.Model:
    """Attention with a learned position for each row, for any batch and sequence."""
    random = np.random.default_rng(0)
    made = {name: random.normal(0, 0.3, (features, features)).astype(np.float32) for name in ("q", "k", "v", "o")}
    made["positions"] = random.normal(0, 0.3, (rows, features)).astype(np.float32)
    names = [numpy_helper.from_array(array, name) for name, array in made.items()]
    names += [numpy_helper.from_array(np.array(value, np.int64), n) for n, value in (("zero", [0]), ("one", [1]))]
    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], start=1, end=2),
        helper.make_node("Slice", ["positions", "zero", "rows", "zero"], ["p"]),
        helper.make_node("Add", ["x", "p"], ["a"]),
        *(helper.make_node("MatMul", ["a", n], [f"a{n}"]) for n in ("q", "k", "v")),
        helper.make_node("Transpose", ["ak"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["aq", "kt"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"]),
        helper.make_node("MatMul", ["shares", "av"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "o"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", "sequence", features]) for n in ("x", "y"))
    graph = helper.make_graph(nodes, "attention", [x], [y], names)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))


def test_a_models_plans_share_its_weights() -> None:
    model = attention()
    sizes = [{"batch": b, "sequence": s} for b, s in ((1, 4), (1, 16), (2, 8))]
    found = [(s, plan_of(model, {"x": (s["batch"], s["sequence"], 8)}, candidates=4)) for s in sizes]
    _, weights = check(found)

    one = sum(array.nbytes for array in found[0][1][1].values())
    rows = (16 + 8) * 8 * 4  # positions of the sizes that the first does not have
    assert sum(array.nbytes for array in weights.values()) == one + rows


def test_a_bundle_of_several_sizes_has_a_format_of_its_own(tmp_path: Path) -> None:
    plans, weights = together([({"n": n}, wide(n)) for n in (2, 4)])
    write_bundle(tmp_path / "site", plans, weights, name="m")
    model: dict[str, Any] = json.loads((tmp_path / "site" / "model.json").read_text("utf-8"))

    assert (model["format"], [p["size"] for p in model["plans"]]) == (3, [{"n": 2}, {"n": 4}])
    assert [p["hash"] for p in model["plans"]] == [wide(n)[0].fingerprint for n in (2, 4)]
    assert not {"kernels", "weights", "setup", "spent"} & set(model["plans"][0])
    assert {"kernels", "weights", "setup", "spent", "shared"} <= set(model)
    stored = [name for shard in model["shards"] for name, _ in shard["tensors"].values()]
    assert sorted(stored) == sorted(weights) == sorted(set(model["weights"].values()))


@pytest.mark.parametrize("missing", ["w", "mask/4"])
def test_a_weight_of_any_size_must_be_there(tmp_path: Path, missing: str) -> None:
    from tamago.compiler.errors import TamagoError

    plans, weights = together([({"n": n}, wide(n)) for n in (2, 4)])
    with pytest.raises(TamagoError, match="W004"):
        write_bundle(tmp_path / "site", plans, {n: a for n, a in weights.items() if n != missing}, name="m")
