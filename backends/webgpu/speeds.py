"""What the device does in a millisecond, measured once: what estimates of operators are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx_ir as ir

from ...compiler.price import Site, work_of
from ...compiler.timing import side_by_side
from .device import Device
from .expression import shape_of
from .operators import ELEMENTS, MOVES

SIDE = 256  # of the product that is timed
COPIED = 1 << 22  # elements of the vector that is copied
SMALL = 64  # elements of a vector that costs nothing but a dispatch
CHAIN = 16  # dispatches in one run: what one more costs is a part of it
SECONDS = 0.2
INLINED = 1e-6  # milliseconds: an operator that is done where its operand is read still counts as one
SHARE = 0.1  # of a pass over memory, that an operator costs which is computed beside others


@dataclass(frozen=True)
class Speeds:
    """Milliseconds of one dispatch, of one byte moved and of one floating-point operation of a product."""

    dispatch: float
    byte: float
    flop: float

    def estimate(self, site: Site) -> float:
        """Milliseconds of an operator among others: what works element by element shares its neighbours' kernels."""
        name = site.op.partition("@")[0]
        flops, moved = work_of(site)
        if name in MOVES:
            return INLINED
        if name in ELEMENTS:
            return INLINED + SHARE * moved * self.byte
        return self.dispatch + max(flops * self.flop, moved * self.byte)


TYPICAL = Speeds(0.03, 1e-8, 5e-10)  # of a browser on a laptop: 30 µs a dispatch, 100 GB/s, 2 TFLOP/s


@cache
def speeds_of(device: Device) -> Speeds:
    """Measure a device, in about half a second; once in a process."""
    small, large, square = _times(device, [_sines(SMALL), _sines(COPIED), _product(SIDE)])
    dispatch = max(small / CHAIN, 1e-4)
    byte = max(large - small, 1e-4) / (CHAIN * 2 * 4 * COPIED)
    return Speeds(dispatch, byte, max(square - small / CHAIN, 1e-4) / (2 * SIDE**3))


def _times(device: Device, models: list[ir.Model]) -> list[float]:
    from .run import Program

    found: list[float] = []
    for model in models:
        feeds = {v.name or "": np.ones(shape_of(v), np.float32) for v in model.graph.inputs}
        program = Program(model, device)
        program(feeds)
        loaded = program.loaded(feeds)
        found += side_by_side([loaded.finished], SECONDS)
    return found


def _model(inputs: list[ir.Value], nodes: list[ir.Node], outputs: list[ir.Value]) -> ir.Model:
    graph = ir.Graph(inputs, outputs, nodes=nodes, opset_imports={"": 23}, name="speeds")
    return ir.Model(graph, ir_version=10)


def _value(name: str, shape: tuple[int, ...]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


def _sines(size: int) -> ir.Model:
    """Steps that cannot be joined, as each result is wanted."""
    x = value = _value("x", (size,))
    nodes, outputs = list[ir.Node](), list[ir.Value]()
    for number in range(CHAIN):
        nodes.append(ir.Node("", "Sin", [value], outputs=[_value(f"y{number}", (size,))]))
        value = nodes[-1].outputs[0]
        outputs.append(value)
    return _model([x], nodes, outputs)


def _product(side: int) -> ir.Model:
    a, b, y = (_value(name, (side, side)) for name in "aby")
    return _model([a, b], [ir.Node("", "MatMul", [a, b], outputs=[y])], [y])
