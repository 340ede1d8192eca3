"""What a rule sees of the node it translates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import onnx_ir as ir
import torch
from torch.fx import Proxy

from .dtypes import torch_dtype
from .registry import Unsupported
from .values import Integers, Value

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class Scope(Protocol):
    """The side of the graph builder that rules may use."""

    def record(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Write a call of `function` into the graph and return its proxy."""
        ...

    def device(self) -> Any:
        """The device the model runs on, as a proxy."""
        ...

    def subgraph(self, graph: ir.Graph) -> tuple[Any, list[Any]]:
        """A sub-graph as (module, values it takes from outside, in the order of its last parameters)."""
        ...

    def inline(self, graph: ir.Graph) -> list[Value]:
        """Write a sub-graph's nodes into this graph and return its outputs."""
        ...


class Operation:
    """One node: attributes, static facts about its inputs, and means to write calls.

    Args:
        node: the ONNX node.
        version: the opset version of the node's domain.
        values: its inputs, `None` where omitted.
        scope: where calls are written; `None` while constants are folded.
    """

    def __init__(self, node: ir.Node, version: int, values: Sequence[Value | None], scope: Scope | None) -> None:
        self.node, self.version, self.values, self._scope = node, version, values, scope

    @property
    def outputs(self) -> int:
        """Number of outputs, omitted ones at the end not counted."""
        used = [index for index in range(len(self.node.outputs)) if self.wants(index)]
        return used[-1] + 1 if used else 0

    def wants(self, index: int) -> bool:
        """Whether output `index` is asked for."""
        return index < len(self.node.outputs) and bool(self.node.outputs[index].name)

    @property
    def scope(self) -> Scope:
        """Where calls are written; only rules registered with `folds=False` may ask for it."""
        if self._scope is None:
            raise Unsupported("it needs a graph, not constants")
        return self._scope

    def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a function that does not know proxies: recorded in the graph, or run at once on constants."""
        if self._scope is None:
            return function(*args, **kwargs)
        return self._scope.record(function, args, kwargs)

    @property
    def device(self) -> torch.device:
        """The device for tensors that are made out of nothing."""
        return torch.device("cpu") if self._scope is None else self._scope.device()

    def attribute(self, name: str, default: T) -> T:
        """A number or string attribute, or its default."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.value

    def numbers(self, name: str) -> list[Any] | None:
        """An attribute that lists numbers or strings, `None` when absent."""
        attribute = self.node.attributes.get(name)
        return None if attribute is None else list(attribute.value)

    def required(self, name: str) -> Any:
        """An attribute without default.

        Raises:
            Unsupported: the node lacks it.
        """
        if name not in self.node.attributes:
            raise Unsupported(f"attribute {name!r} is missing")
        return self.node.attributes[name].value

    def rank(self, index: int) -> int | None:
        """Rank of input `index`, where known."""
        value = self._input(index)
        return None if value is None else value.rank

    def dtype(self, index: int) -> torch.dtype | None:
        """Torch dtype of input `index`, where known."""
        value = self._input(index)
        return None if value is None else value.dtype

    def onnx_dtype(self, index: int) -> ir.DataType | None:
        """ONNX element type of input `index`: it also knows the types that torch carries in a wider one."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        return None if value is None else value.dtype

    def output_dtype(self, index: int = 0) -> torch.dtype | None:
        """Torch dtype of output `index`, where known."""
        dtype = self.node.outputs[index].dtype
        return None if dtype is None or dtype == ir.DataType.UNDEFINED else torch_dtype(dtype)

    def floating(self, index: int) -> bool | None:
        """Whether input `index` is floating point, `None` if unknown."""
        dtype = self.dtype(index)
        return None if dtype is None else dtype.is_floating_point

    def constant(self, index: int) -> Tensor | None:
        """Content of input `index`, when known now."""
        value = self._input(index)
        return None if value is None else value.constant

    def number(self, index: int) -> float | int | None:
        """The one number that input `index` holds, when known now."""
        constant = self.constant(index)
        return None if constant is None or constant.numel() != 1 else constant.reshape(()).item()

    def scalar(self, index: int) -> float | int | None:
        """Input `index` as a number to put into a call, when it is a constant of rank 0 that may be folded away."""
        value = self._input(index)
        if self._scope is None or value is None or not value.foldable or value.rank != 0:
            return None
        return self.number(index)

    def integers(self, index: int) -> Integers | None:
        """Integers of input `index`, when known one by one."""
        value = self._input(index)
        return None if value is None else value.elements()

    def fixed(self, index: int) -> list[int] | None:
        """Integers of input `index`, when all are known now."""
        integers = self.integers(index)
        return None if integers is None or not integers.known else integers.items

    def sizes(self, index: int, tensor: Tensor) -> list[int]:
        """Integers of input `index` as a list (or the proxy of one), read from its tensor where unknown."""
        integers = self.integers(index)
        if integers is not None:
            return integers.items
        value = self._input(index)
        # what already is on the host need not make the detour over the device
        source = value.proxy if value is not None and value.host else tensor
        return self.call(listed, source)

    def _input(self, index: int) -> Value | None:
        return self.values[index] if index < len(self.values) else None


def listed(tensor: Tensor) -> list[int]:
    """The elements of a tensor of integers as Python integers."""
    return tensor.reshape(-1).tolist()


def is_recorded(value: object) -> bool:
    """Whether a number is known only when the program runs."""
    return isinstance(value, Proxy)
