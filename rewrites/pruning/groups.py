"""A group: units that leave a program together, and all that must change when some of them do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.ir import constant_tensor
from .layout import Layout

Role = Literal["source", "each", "sink"]


@dataclass(frozen=True)
class Slice:
    """A constant operand along whose axis the units lie.

    Args:
        node: reads it.
        index: as which of its inputs.
        layout: of the constant.
        role: "source" makes the units (columns of a product), "each" belongs to each (a bias, a scale), "sink" reads
            them and sums over them (rows of a product).
    """

    node: ir.Node
    index: int
    layout: Layout
    role: Role

    @property
    def constant(self) -> ir.Value:
        """The initializer."""
        found = self.node.inputs[self.index]
        assert found is not None
        return found

    @property
    def array(self) -> Array:
        """Its contents with the units' elements along axis 0: [units, elements of one]."""
        tensor = constant_tensor(self.constant)
        assert tensor is not None
        layout = self.layout
        moved = np.moveaxis(tensor.numpy(), layout.axis, 0)
        parts = moved.reshape(layout.outer, layout.units, layout.inner, -1)
        return np.moveaxis(parts, 1, 0).reshape(layout.units, -1)


@dataclass(frozen=True)
class Size:
    """An entry of a constant shape that counts the units: `each` for one."""

    node: ir.Node
    index: int
    position: int
    each: int


@dataclass(frozen=True)
class Count:
    """An attribute that counts the units: `each` for one."""

    node: ir.Node
    name: str
    each: int


@dataclass(eq=False)
class Group:
    """Units that can be removed one by one.

    Args:
        name: of the value from which it was found.
        units: how many there are.
        values: where they lie in the values that carry them.
        slices: constants that shrink with them.
        sizes: constant shapes that count them.
        counts: attributes that count them.
    """

    name: str
    units: int
    values: dict[ir.Value, Layout] = field(default_factory=dict[ir.Value, Layout])
    slices: list[Slice] = field(default_factory=list[Slice])
    sizes: list[Size] = field(default_factory=list[Size])
    counts: list[Count] = field(default_factory=list[Count])

    def of(self, role: Role) -> list[Slice]:
        """The slices that play this part."""
        return [s for s in self.slices if s.role == role]

    @property
    def claims(self) -> set[tuple[str, int]]:
        """Which axes of which initializers it shrinks."""
        return {(s.constant.name or "", s.layout.axis) for s in self.slices}

    @property
    def read(self) -> dict[ir.Value, Layout]:
        """The values that sinks read: what the rest of the program sees of the units."""
        found = [s.node.inputs[1 if s.index == 0 else 0] for s in self.of("sink")]
        return {v: self.values[v] for v in found if v is not None and v in self.values}
