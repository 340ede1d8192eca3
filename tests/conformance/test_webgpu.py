"""The ONNX backend tests, run through `tamago.backends.webgpu` on whatever adapter there is.

A case must pass, or be refused with B031 and be listed in `webgpu_unsupported.toml` with the reason: a wrong answer is
never expected. Shapes are baked into kernels, so a case whose shapes follow from the contents of inputs (axes, sizes,
starts) is refused as it is; it is tried again with its small inputs made constants, as exporters write them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.run import Program
from tamago.compiler.errors import TamagoError
from tests.conformance import suite
from tests.conformance.expectations import Expected, read_expected, reason_for
from tests.webgpu.adapter import adapter

CASES = {case.name: case for case in suite.cases()}
EXPECTED = read_expected("webgpu_unsupported.toml", "unsupported")
SMALL = 64  # elements: what is larger is data, such as the file of a picture
SUMS = 2**-22  # two units in the last place of single precision
HALF = 2**-9  # two units in the last place of half precision: shaders round once where NumPy rounds at every step


@pytest.fixture(scope="module")
def device() -> Device:
    found = adapter()
    if isinstance(found, str):
        pytest.skip(found)
    return found


def with_constants(proto: onnx.ModelProto, given: Sequence[Any]) -> ir.Model:
    """The model with its scalars and vectors made constants, but for a first input of floats, which is the data."""
    model = ir.from_proto(proto)
    for number, (value, array) in enumerate(zip(list(model.graph.inputs), given, strict=False)):
        if not isinstance(array, np.ndarray) or array.ndim > 1 or array.dtype.kind not in "iufb" or array.size > SMALL:
            continue
        if number or not array.ndim or array.dtype.kind in "iu":
            value.const_value = ir.tensor(array, name=value.name)
            value.shape = ir.Shape(array.shape)
            model.graph.inputs.remove(value)
            model.graph.register_initializer(value)
    return model


def difference(
    model: ir.Model, names: Sequence[str], case: suite.Case, data: suite.DataSet, device: Device
) -> str | None:
    """How the results differ from what they must be."""
    given, wanted = data
    program = Program(model, device)
    arrays = [x if isinstance(x, np.ndarray) else np.zeros(()) for x in given]  # what is no tensor is refused anyway
    feeds = {name: array for name, array in zip(names, arrays, strict=False) if name in program.inputs}
    half = any(isinstance(x, np.ndarray) and x.dtype == np.float16 for x in wanted)
    atol = case.atol
    if any(node.op_type == "DFT" for node in model.graph):  # sums that cancel: as exact as the largest of them
        atol = max(atol, SUMS * max(float(np.abs(x).max(initial=0)) for x in wanted if isinstance(x, np.ndarray)))
    return suite.compare(program(feeds), wanted, max(case.rtol, HALF) if half else case.rtol, atol)


def verdict(case: suite.Case, device: Device) -> str | None:
    """Why a case does not pass.

    Raises:
        TamagoError: B031, it is refused.
    """
    proto, sets = case.load()
    names = [value.name for value in proto.graph.input]
    found: list[str | None] = []
    for data in sets:
        try:
            found.append(difference(ir.from_proto(proto), names, case, data, device))
        except TamagoError as error:
            if error.code != "B031":
                raise
            found.append(difference(with_constants(proto, data[0]), names, case, data, device))
    return next((text for text in found if text is not None), None)


@pytest.mark.parametrize("name", sorted(CASES))
def test_case(name: str, device: Device) -> None:
    reason = reason_for(name, EXPECTED)
    if reason is None:
        assert verdict(CASES[name], device) is None
        return
    try:
        wrong = verdict(CASES[name], device)
    except TamagoError as error:
        if error.code == "B031":
            pytest.xfail(reason)
        raise
    pytest.fail(f"{name} is not refused ({wrong or 'it passes'}): look at webgpu_unsupported.toml ({reason})")


@pytest.mark.parametrize("entry", EXPECTED, ids=lambda entry: entry.pattern.pattern)
def test_entry_matches_a_test(entry: Expected) -> None:
    assert any(entry.pattern.fullmatch(name) for name in CASES)
