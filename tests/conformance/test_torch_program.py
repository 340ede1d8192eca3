"""The ONNX backend tests, run through `torch_program` on the CPU.

Node tests are made by the installed `onnx`; simple and converted models lie in its folder. "Real" models are left out:
they are downloads. `torch_expected_failures.toml` lists the tests that cannot pass, each with its reason: a test
listed there that passes fails, and so does an entry that matches no test.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from tamago.compiler.torch_operators.dtypes import to_numpy, to_torch
from tamago.compiler.torch_program import torch_program
from tests.conformance.expectations import Expected, read_expected, reason_for

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")


def load_cases() -> dict[str, TestCase]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators of node tests divide by zero on purpose
        return {case.name: case for kind in KINDS for case in load_model_tests(kind=kind)}


CASES = load_cases()
EXPECTED = read_expected("torch_expected_failures.toml", "expected_failure")


def reason_to_fail(name: str) -> str | None:
    return reason_for(name, EXPECTED)


def read_value(path: Path, kind: onnx.TypeProto) -> Any:
    """A stored input or output."""
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(path.read_bytes()))
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def data_of(case: TestCase, model: onnx.ModelProto) -> Sequence[tuple[Sequence[Any], Sequence[Any]]]:
    """Inputs and outputs of each data set."""
    if case.data_sets is not None:
        return case.data_sets
    assert case.model_dir is not None
    sets: list[tuple[list[Any], list[Any]]] = []
    for folder in sorted(Path(case.model_dir).glob("test_data_set_*")):
        inputs = [read_value(folder / f"input_{i}.pb", value.type) for i, value in enumerate(given(model, folder))]
        outputs = [read_value(folder / f"output_{i}.pb", value.type) for i, value in enumerate(model.graph.output)]
        sets.append((inputs, outputs))
    return sets


def given(model: onnx.ModelProto, folder: Path) -> list[onnx.ValueInfoProto]:
    """The inputs for which a data set has a file."""
    return list(model.graph.input)[: len(list(folder.glob("input_*.pb")))]


def as_tensor(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return [as_tensor(item) for item in value]
    if isinstance(value, onnx.TensorProto):
        return to_torch(ir.from_proto(value))
    return to_torch(np.asarray(value))


def as_array(value: Any, kind: ir.TypeProtocol | None) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return [to_numpy(item) for item in value]
    dtype = kind.dtype if isinstance(kind, ir.TensorType) else None
    return to_numpy(value, dtype)


def leaves(value: Any) -> list[Any]:
    """The arrays of a value that may be a sequence."""
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value]


def compare(expected: Any, actual: Any, rtol: float, atol: float) -> None:
    """ONNX's own comparison; it allows bfloat16 two units in the last place, and so do we float16."""
    assert isinstance(expected, list | tuple) == isinstance(actual, list | tuple)
    for reference, array in zip(leaves(expected), leaves(actual), strict=True):
        own = max(rtol, 2**-9) if array.dtype == np.float16 else rtol
        Runner.assert_similar_outputs([reference], [array], rtol=own, atol=atol)


def forget_shapes(model: ir.Model) -> None:
    """Take all shapes out of the model, so that rules have to do without ranks."""
    for graph in model.graphs():
        for value in (*graph.inputs, *graph.outputs, *(output for node in graph for output in node.outputs)):
            value.shape = None


def moved(value: Any, device: str) -> Any:
    """The tensors of a value that may be a sequence, on another device."""
    if isinstance(value, list | tuple):
        return type(value)(moved(item, device) for item in value)
    return value.to(device) if isinstance(value, torch.Tensor) else value


def check(case: TestCase, *, shapeless: bool = False, device: str = "cpu") -> None:
    """Run a test case and compare as ONNX's own runner does."""
    torch.manual_seed(0)  # so that tests of random operators fail each time, or never
    proto = case.model
    if proto is None:
        assert case.model_dir is not None
        proto = onnx.load(Path(case.model_dir) / "model.onnx")
    model = ir.from_proto(proto)
    if shapeless:
        forget_shapes(model)
    program = torch_program(model).to(device)
    names = set(program.meta["inputs"])
    for inputs, outputs in data_of(case, proto):
        present = [value for value in proto.graph.input if value.name]
        arguments = [as_tensor(x) for value, x in zip(present, inputs, strict=False) if value.name in names]
        with torch.no_grad():
            results = moved(program(*moved(arguments, device)), "cpu")
        arrays = [as_array(x, output.type) for x, output in zip(results, model.graph.outputs, strict=True)]
        for expected, array in zip(outputs, arrays, strict=True):
            compare(expected, array, case.rtol, case.atol)


@pytest.mark.parametrize("name", sorted(CASES))
def test_case(name: str) -> None:
    reason = reason_to_fail(name)
    if reason is None:
        check(CASES[name])
        return
    try:
        check(CASES[name])
    except Exception:  # whatever it fails with, it does fail
        pytest.xfail(reason)
    pytest.fail(f"{name} passes: take it out of torch_expected_failures.toml ({reason})")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(name for name in CASES if reason_to_fail(name) is None))
def test_case_without_shapes(name: str) -> None:
    check(CASES[name], shapeless=True)


@pytest.mark.parametrize("entry", EXPECTED, ids=lambda entry: entry.pattern.pattern)
def test_entry_matches_a_test(entry: Expected) -> None:
    assert any(entry.pattern.fullmatch(name) for name in CASES)
