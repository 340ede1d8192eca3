"""The value of one operator on constant inputs: what constant folding computes with.

Layout operators and exact arithmetic are NumPy's; everything else is run by ONNX Runtime, so that a folded constant is
bit for bit what the runtime would have computed. Where it has no kernel, ONNX's reference evaluator is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from .facts import Array
from .opset import TARGET
from .schema import attribute, split_name

BFLOAT16 = int(ir.DataType.BFLOAT16)
BRAIN = ir.DataType.BFLOAT16.numpy()


# Not computed ahead, though it could be. A weight that is quantised where it is read says what grid it lies on; as a
# plain constant between quantised activations ONNX Runtime would lay it, and the bias, on a grid of its own choice.
LEFT = frozenset({"QuantizeLinear"})


class CannotEvaluate(Exception):
    """Neither ONNX Runtime nor the reference evaluator can compute this; the node is kept as it is."""


def evaluate(
    op: str, attributes: Mapping[str, Any], inputs: Sequence[Array | None], version: int = TARGET, outputs: int = 1
) -> list[Array]:
    """All outputs of one operator.

    Args:
        op: the operator, with its domain before `::` unless it is ONNX's own.
        attributes: stated attributes as Python values (no graphs).
        inputs: one array for each input, None for one left out.
        version: the opset of the default domain.
        outputs: how many outputs to compute.

    Raises:
        CannotEvaluate: no evaluator has this operator for these dtypes.
    """
    quick = _NUMPY.get(op)
    if quick is not None and all(a is not None for a in inputs) and version >= 18:
        found = quick(attributes, [a for a in inputs if a is not None])
        if found is not None:
            return [found]
    key = tuple((name, _freeze(value)) for name, value in sorted(attributes.items()))
    present = tuple(a is not None for a in inputs)
    dtypes = tuple(int(ir.DataType.from_numpy(a.dtype)) if a is not None else 0 for a in inputs)
    feeds = {f"x{i}": a for i, a in enumerate(inputs) if a is not None}
    try:
        runner = _runner(op, key, present, dtypes, version, outputs)
        results = runner(feeds)
    except Exception as error:
        raise CannotEvaluate(f"{op}: {error}") from error
    if any(r is None or not isinstance(r, np.ndarray) for r in results):
        raise CannotEvaluate(f"{op}: an output is not a tensor")
    return results


def _freeze(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes())
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, tuple) and value[:1] == ("array",):
        return onnx.numpy_helper.from_array(np.frombuffer(value[3], dtype=value[1]).reshape(value[2]))
    return list(value) if isinstance(value, tuple) else value


@lru_cache(maxsize=512)
def _runner(
    op: str, key: tuple[Any, ...], present: tuple[bool, ...], dtypes: tuple[int, ...], version: int, outputs: int
) -> Callable[[dict[str, Array]], list[Any]]:
    domain, name = split_name(op)
    attributes = {k: _thaw(v) for k, v in key}
    names = [f"x{i}" if there else "" for i, there in enumerate(present)]
    results = [f"y{i}" for i in range(outputs)]
    node = onnx.helper.make_node(name, names, results, domain=domain, **attributes)
    graph = onnx.helper.make_graph(
        [node],
        "fold",
        [onnx.helper.make_tensor_value_info(n, d, None) for n, d in zip(names, dtypes, strict=True) if n],
        [onnx.helper.make_empty_tensor_value_info(r) for r in results],
    )
    imports = [onnx.helper.make_opsetid("", version)]
    if domain:
        imports.append(onnx.helper.make_opsetid(domain, 1 if domain == "com.microsoft" else 3))
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    try:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        if BFLOAT16 in dtypes:
            raise CannotEvaluate("ONNX Runtime hands no bfloat16 to Python, nor takes it")
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return lambda feeds: list(session.run(None, feeds))
    except Exception:
        from onnx.reference import ReferenceEvaluator

        reference = ReferenceEvaluator(model)
        return lambda feeds: list(reference.run(None, feeds))


_Quick = Callable[[Mapping[str, Any], list[Array]], Array | None]


def _arithmetic(function: Callable[[Any, Any], Any]) -> _Quick:
    def run(_: Mapping[str, Any], inputs: list[Array]) -> Array | None:
        a, b = inputs
        if a.dtype != b.dtype or a.dtype.kind not in "fiu":
            return None
        with np.errstate(all="ignore"):
            return np.asarray(function(a, b), dtype=a.dtype)

    return run


def _cast(attributes: Mapping[str, Any], inputs: list[Array]) -> Array | None:
    target = ir.DataType(attributes["to"])
    if target.bitwidth < 8 or target == ir.DataType.STRING:
        return None
    wanted = target.numpy()
    given = inputs[0].dtype
    if (wanted == BRAIN and given.kind == "f") or (given == BRAIN and wanted.kind == "f"):
        with np.errstate(all="ignore"):
            return inputs[0].astype(wanted)
    if inputs[0].dtype.kind not in "fiub":
        return None
    # Float to integer out of range is the runtime's own choice: leave it to the runtime.
    if (inputs[0].dtype.kind == "f" and wanted.kind != "f") or wanted.kind not in "fiub":
        return None
    with np.errstate(all="ignore"):
        return inputs[0].astype(wanted)


def _reshape(attributes: Mapping[str, Any], inputs: list[Array]) -> Array | None:
    data, shape = inputs
    if attribute("Reshape", attributes, "allowzero") or 0 in data.shape:
        return None
    dims = [data.shape[i] if d == 0 else int(d) for i, d in enumerate(shape.tolist())]
    return data.reshape(dims)


def _unsqueeze(_: Mapping[str, Any], inputs: list[Array]) -> Array:
    return np.expand_dims(inputs[0], tuple(int(a) for a in inputs[1].reshape(-1)))


def _transpose(attributes: Mapping[str, Any], inputs: list[Array]) -> Array:
    return np.ascontiguousarray(np.transpose(inputs[0], attributes.get("perm")))


_NUMPY: dict[str, _Quick] = {
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Cast": _cast,
    "Concat": lambda attributes, inputs: np.concatenate(inputs, axis=attributes["axis"]),
    "Identity": lambda _, inputs: inputs[0],
    "Reshape": _reshape,
    "Shape": lambda attributes, inputs: None if attributes else np.asarray(inputs[0].shape, dtype=np.int64),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
