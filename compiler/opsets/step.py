"""What a rewrite sees and does: one node, and the few edits that a change of opset needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from ..facts import Array, Dim
from ..ir import dims, metadata

Fresh = Callable[[str], str]


class Stop(Exception):
    """A node cannot be brought to the next opset with exactly the same meaning."""


@dataclass(frozen=True)
class Site:
    """A node of the default domain where it stands.

    Args:
        node: changed in place; its name, its outputs and its metadata stay.
        fresh: gives an unused name that starts with its argument.
        in_function: whether it belongs to a function, which cannot hold initializers.
        version: the opset that the node is brought to.
    """

    node: ir.Node
    fresh: Fresh
    in_function: bool
    version: int

    def stated(self, name: str) -> Any:
        """The attribute's value as Python knows it, None where it is not stated."""
        attribute = self.node.attributes.get(name)
        if attribute is None:
            return None
        if attribute.is_ref():
            raise Stop(f"its attribute {name} is a parameter of a function")
        value = attribute.value
        return tuple(value) if isinstance(value, (list, tuple)) else value

    def take(self, name: str) -> Any:
        """The attribute's value, which is removed."""
        value = self.stated(name)
        self.node.attributes.pop(name, None)
        return value

    def state(self, name: str, value: Any) -> None:
        """Set an attribute."""
        self.node.attributes[name] = ir.convenience.convert_attribute(name, value)

    def input(self, index: int) -> ir.Value | None:
        """An input, None where it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def give(self, index: int, value: ir.Value | None) -> None:
        """Set an input; inputs before it that do not exist are left out."""
        if value is None and index >= len(self.node.inputs):
            return
        if index >= len(self.node.inputs):
            self.node.resize_inputs(index + 1)
        self.node.replace_input_with(index, value)

    def constant(self, stem: str, array: Array) -> ir.Value:
        """A new constant named after the node: an initializer of its graph, a `Constant` node in a function."""
        name = self.fresh(f"{self._name}/{stem}")
        tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        graph = self.node.graph
        if self.in_function or not isinstance(graph, ir.Graph):
            stated = [ir.AttrTensor("value", tensor)]
            self.node.prepend(ir.Node("", "Constant", [], stated, outputs=[value], **self._described(stem)))
        else:
            graph.register_initializer(value)
        return value

    def integers(self, stem: str, numbers: Any) -> ir.Value:
        """A new constant of 64-bit integers."""
        return self.constant(stem, np.asarray(numbers, dtype=np.int64))

    def before(self, op: str, inputs: list[ir.Value | None], attributes: Mapping[str, Any] | None = None) -> ir.Value:
        """A new node in front of this one; its single output."""
        made = self._made(op, inputs, attributes or {})
        self.node.prepend(made)
        return made.outputs[0]

    def after(self, op: str, inputs: list[ir.Value | None], attributes: Mapping[str, Any] | None = None) -> None:
        """A new node behind this one that takes over its output's name, type, shape and readers."""
        made, old = self._made(op, inputs, attributes or {}), self.node.outputs[0]
        new = made.outputs[0]
        new.type, new.shape = old.type, old.shape
        new.metadata_props.update(old.metadata_props)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        for index, value in enumerate(inputs):  # this one's own operands are the only readers the old value keeps
            if value is old:
                made.replace_input_with(index, old)
        old.metadata_props.clear()
        name, old.name = old.name, self.fresh(f"{old.name}/{self.node.op_type}")
        new.name, old.shape = name, None
        self.node.append(made)

    def dtype(self, value: ir.Value | None) -> ir.DataType | None:
        """The element type of a value, None where it is not known."""
        return value.dtype if value is not None and isinstance(value.type, ir.TensorType) else None

    def shape(self, value: ir.Value | None) -> tuple[Dim, ...] | None:
        """The dimensions of a value, None where its rank is not known."""
        return None if value is None else dims(value)

    def contents(self, value: ir.Value | None) -> Array | None:
        """The contents of a value that nothing can change from outside."""
        if value is None or value.is_graph_input():
            return None
        producer = value.producer()
        if producer is None:
            tensor = value.const_value
        else:
            tensor = ir.convenience.get_const_tensor(value) if producer.op_type == "Constant" else None
        return None if tensor is None or tensor.dtype == ir.DataType.STRING else tensor.numpy()

    def used_outputs(self) -> int:
        """How many outputs have a name."""
        return sum(1 for value in self.node.outputs if value.name)

    @property
    def _name(self) -> str:
        return self.node.name or self.node.op_type

    def _described(self, stem: str) -> dict[str, Any]:
        return {
            "name": self.fresh(f"{self._name}/{stem}"),
            "metadata_props": dict(metadata(f"to opset {self.version}", [self._name])),
        }

    def _made(self, op: str, inputs: list[ir.Value | None], attributes: Mapping[str, Any]) -> ir.Node:
        stated = [ir.convenience.convert_attribute(k, v) for k, v in attributes.items()]
        output = ir.Value(name=self.fresh(f"{self._name}/{op.lower()}"))
        return ir.Node("", op, inputs, stated, outputs=[output], **self._described(op))


Rewrite = Callable[[Site], None]
