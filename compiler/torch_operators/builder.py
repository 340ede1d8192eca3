"""Writes one ONNX graph as one FX graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
from torch import fx, nn
from torch.fx.proxy import GraphAppendingTracer

from ..errors import EXIT_UNSUPPORTED, TamagoError
from .dtypes import TRAINABLE, to_torch
from .inference import complete
from .names import identifier, unique
from .operation import Operation
from .registry import INTEGER_RULES, RULES, Registration, Unsupported
from .values import FOLD_LIMIT, Integers, Value, described
from .widening import narrowed, widened

if TYPE_CHECKING:
    from torch import Tensor


_MALFORMED = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


@dataclass
class Settings:
    """What holds for a graph and all its sub-graphs.

    Attributes:
        opsets: domain → version.
        trainable: float initializers become parameters.
        problems: collects nodes that cannot be translated; `None` raises at the first.
    """

    opsets: Mapping[str, int]
    trainable: bool = False
    problems: list[str] | None = None
    initializers: dict[str, str] = field(default_factory=dict[str, str])


def untranslated(*inputs: Any) -> Any:
    """Stand in for a node that has no rule, while all such nodes are being listed."""
    raise TamagoError("B010", "the program holds an unsupported operator")


class GraphBuilder:
    """Builds one FX graph; sub-graphs get a builder of their own whose `parent` is this one."""

    def __init__(self, settings: Settings, parent: GraphBuilder | None = None) -> None:
        self.settings, self.parent = settings, parent
        self.graph = fx.Graph()
        self.tracer = GraphAppendingTracer(self.graph)
        self.root = nn.Module()
        self.values: dict[ir.Value, Value] = {}
        self.captured: dict[fx.Node, tuple[fx.Proxy, fx.Proxy]] = {}  # outer node -> (outer, inner)
        self._targets: dict[str, str] = {}
        self.inputs: list[Value] = []  # tensors among the graph's inputs
        self._last_placeholder: fx.Node | None = None
        self._anchor: Value | None = None

    # Values

    def placeholder(self, name: str) -> fx.Proxy:
        """Add an argument to the program."""
        taken = {node.target for node in self.graph.nodes if node.op == "placeholder"}
        target = unique(identifier(name), taken)
        first = next(iter(self.graph.nodes), None)
        if self._last_placeholder is not None:
            with self.graph.inserting_after(self._last_placeholder):
                node = self.graph.placeholder(target)
        elif first is not None:
            with self.graph.inserting_before(first):
                node = self.graph.placeholder(target)
        else:
            node = self.graph.placeholder(target)
        self._last_placeholder = node
        return fx.Proxy(node, self.tracer)

    def add_input(self, value: ir.Value) -> None:
        """Declare a graph input."""
        known = described(value)
        known.proxy = self.placeholder(value.name or "input")
        self.values[value] = known
        if isinstance(value.type, ir.TensorType):
            self.inputs.append(known)

    def add_initializers(self, values: Iterable[ir.Value]) -> None:
        """Declare the graph's constants; they become buffers when first used."""
        for value in values:
            if value.const_value is None:
                raise TamagoError("B011", "an initializer has no content", where=value.name or "")
            try:
                constant = to_torch(value.const_value, share=not self.settings.trainable)
            except Unsupported:  # a string table matters only to the node that reads it
                continue
            self.values[value] = Value(
                constant=constant,
                weight=constant.is_floating_point() and (constant.dim() > 0 or self.settings.trainable),
                trainable=self.settings.trainable and not is_statistic(value),
                rank=constant.dim(),
                dtype=constant.dtype,
                name=value.name or "constant",
            )

    def lookup(self, value: ir.Value) -> Value | None:
        """The value as this graph knows it, taken from the enclosing graph if need be."""
        if value in self.values:
            return self.values[value]
        outer = None if self.parent is None else self.parent.lookup(value)
        if outer is None:
            return None
        inner = Value(
            constant=outer.constant,
            weight=outer.weight,
            host=outer.host,
            rank=outer.rank,
            dtype=outer.dtype,
            name=outer.name,
        )
        assert self.parent is not None
        if outer.integers is not None:
            items = [self.capture(item) if isinstance(item, fx.Proxy) else item for item in outer.integers.items]
            inner.integers = Integers(items, outer.integers.scalar, outer.integers.dtype)  # pyright: ignore[reportArgumentType]
        elif outer.shared:
            inner.proxy = self.capture(self.parent.on_device(outer))
        elif outer.proxy is not None:
            inner.proxy = self.capture(outer.proxy)
        self.values[value] = inner
        return inner

    def capture(self, outer: fx.Proxy) -> fx.Proxy:
        """The argument through which a value of the enclosing graph comes in."""
        if outer.node not in self.captured:
            self.captured[outer.node] = (outer, self.placeholder(outer.node.name))
        return self.captured[outer.node][1]

    def register(self, name: str, content: Tensor | nn.Module) -> fx.Proxy:
        """Own a tensor or module under a name made of `name`, and return the node that fetches it."""
        target = unique(identifier(name), set(self._targets))
        self._targets[target] = name
        if isinstance(content, nn.Module):
            self.root.add_module(target, content)
        elif isinstance(content, nn.Parameter):
            self.root.register_parameter(target, content)
        else:
            self.root.register_buffer(target, content)
        return fx.Proxy(self.graph.get_attr(target), self.tracer)

    def on_device(self, value: Value) -> fx.Proxy:
        """The value as a tensor on the model's device."""
        if value.proxy is not None and not value.host:
            return value.proxy
        if "device" not in value.variants:
            value.variants["device"] = self._make_on_device(value)
        return value.variants["device"]

    def _make_on_device(self, value: Value) -> fx.Proxy:
        if value.proxy is not None:
            return value.proxy.to(self.device())
        if value.constant is None:
            assert value.integers is not None
            return self.record(
                torch.tensor, (value.integers.nested(),), {"dtype": value.integers.dtype, "device": self.device()}
            )
        constant = value.constant
        if value.trainable and constant.dtype in TRAINABLE:
            constant = nn.Parameter(constant)
        proxy = self.register(value.name, constant)
        if value.name and self.parent is None:
            self.settings.initializers.setdefault(value.name, str(proxy.node.target))
        return proxy

    def on_host(self, value: Value) -> fx.Proxy:
        """The value as a tensor on the CPU; `value` must be of the host, integers or a constant."""
        if value.proxy is not None:
            return value.proxy
        if "host" not in value.variants:
            if value.integers is not None:
                content, dtype = value.integers.nested(), value.integers.dtype
            else:
                assert value.constant is not None
                content, dtype = value.constant.tolist(), value.constant.dtype
            value.variants["host"] = self.record(torch.tensor, (content,), {"dtype": dtype})
        return value.variants["host"]

    def device(self) -> Any:
        """The model's device: that of a weight, or else of an input."""
        anchor = self.anchor()
        return torch.device("cpu") if anchor is None else anchor.device

    def anchor(self) -> fx.Proxy | None:
        """A tensor that is on the model's device whenever the program runs."""
        if self.parent is not None:
            outer = self.parent.anchor()
            return None if outer is None else self.capture(outer)
        if self._anchor is None:  # a weight, or else an input of floating point, or else any
            weights = [value for value in self.values.values() if value.weight]
            floats = [value for value in self.inputs if value.dtype is not None and value.dtype.is_floating_point]
            self._anchor = next(iter(weights + floats + self.inputs), None)
        return None if self._anchor is None else self.on_device(self._anchor)

    # Calls

    def record(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Write a call of `function` into the graph and return its proxy."""
        return self.tracer.create_proxy("call_function", function, args, kwargs)

    def subgraph(self, graph: ir.Graph) -> tuple[Any, list[Any]]:
        """A sub-graph as (module, values it takes from outside, in the order of its last parameters)."""
        inner = GraphBuilder(self.settings, self)
        module = inner.build(graph)
        return self.register(graph.name or "body", module), [outer for outer, _ in inner.captured.values()]

    def inline(self, graph: ir.Graph) -> list[Value]:
        """Write a sub-graph's nodes into this graph and return its outputs."""
        self.add_initializers(graph.initializers.values())
        for node in graph:
            self.add(node)
        return [self._known(output) for output in graph.outputs]

    # Nodes

    def add(self, node: ir.Node) -> None:
        """Translate one node.

        Raises:
            TamagoError: B010, no rule can express the node.
        """
        last = next(iter(reversed(self.graph.nodes)), None)
        try:
            self._translate(node)
        except Unsupported as reason:
            self._report(node, str(reason))
        except _MALFORMED as error:  # inputs or attributes that no valid file has
            self._report(node, f"{type(error).__name__}: {error}")
        self._describe(node, last)

    def _translate(self, node: ir.Node) -> None:
        domain = "" if node.domain == "ai.onnx" else node.domain
        registration = RULES.get((domain, node.op_type))
        if registration is None:
            raise Unsupported("torch_program has no rule for it")
        values = [None if value is None else self._known(value) for value in node.inputs]
        version = node.version or self.settings.opsets.get(domain, 1)
        present = [value for value in values if value is not None]
        complete(node, version, values, registration.like)
        if registration.folds and all(value.foldable for value in present):
            constants = widened([None if value is None else value.constant for value in values], values, registration)
            result = registration.rule(Operation(node, version, values, None), *constants)
            if not (registration.creates and too_large(result)):
                self._store(node, narrowed(result, node, values, registration), host=False)
                return
        if domain == "" and node.op_type in INTEGER_RULES and any(value.integers is not None for value in present):
            result = INTEGER_RULES[node.op_type](Operation(node, version, values, self))
            if result is not None:
                self._store(node, result, host=True)
                return
        moving = [value for value in present if value.constant is None]
        host = bool(moving) and all(value.host or value.integers is not None for value in moving)
        host = host and registration.folds and not registration.creates
        host = host and not any(value.shared for value in present)
        tensors = [None if value is None else self._argument(value, registration, host) for value in values]
        result = registration.rule(Operation(node, version, values, self), *widened(tensors, values, registration))
        self._store(node, narrowed(result, node, values, registration), host=host or registration.host)

    def _argument(self, value: Value, registration: Registration, host: bool) -> fx.Proxy:
        # torch lets a scalar of the host meet device tensors in pointwise calls
        scalar = registration.pointwise and value.rank == 0 and (value.host or value.integers is not None)
        if host or (scalar and value.constant is None):
            return self.on_host(value)
        return self.on_device(value)

    def _known(self, value: ir.Value) -> Value:
        known = self.lookup(value)
        if known is None:
            raise Unsupported(f"its input {value.name!r} has no tensor content")
        return known

    def _store(self, node: ir.Node, result: Any, *, host: bool) -> None:
        results: Sequence[Any] = result if isinstance(result, tuple | list) else (result,)
        for output, content in zip(node.outputs, results, strict=False):
            if content is not None:
                self.values[output] = self._stored(output, content, host)

    def _stored(self, output: ir.Value, content: Any, host: bool) -> Value:
        if isinstance(content, Value):
            return content
        known = described(output)
        if isinstance(content, Integers) and content.known:
            content = torch.tensor(content.nested(), dtype=content.dtype)
        if isinstance(content, Integers):
            known.integers, known.rank, known.dtype = content, int(not content.scalar), content.dtype
        elif isinstance(content, torch.Tensor):
            known.constant, known.rank, known.dtype = content, content.dim(), content.dtype
        else:
            known.proxy, known.host = content, host
        return known

    def _describe(self, node: ir.Node, last: fx.Node | None) -> None:
        """Give the FX nodes just written the ONNX names."""
        added = list(nodes_after(self.graph, last))
        for fx_node in added:
            fx_node.meta.setdefault("onnx", (node.domain, node.op_type, node.name or ""))
        fresh = set(added)
        for output in node.outputs:
            value = self.values.get(output)
            if output.name and value is not None and value.proxy is not None and value.proxy.node in fresh:
                # torch offers no public way to rename a node through the graph's name space
                value.proxy.node._rename(identifier(output.name))  # pyright: ignore[reportPrivateUsage]
                value.proxy.node.meta["onnx_value"] = output.name

    def _report(self, node: ir.Node, reason: str) -> None:
        domain = node.domain or "ai.onnx"
        what = f"operator {domain}::{node.op_type} of node {node.name!r}"
        if self.settings.problems is None:
            raise TamagoError(
                "B010",
                f"operator {domain}::{node.op_type} cannot be run in torch",
                where=f"node {node.name!r}",
                why=reason,
                exit_code=EXIT_UNSUPPORTED,
            )
        self.settings.problems.append(f"{what}: {reason}")
        for output in node.outputs:
            self.values[output] = described(output)
            self.values[output].proxy = self.record(untranslated, (), {})

    # The whole

    def build(self, graph: ir.Graph) -> fx.GraphModule:
        """Translate a graph: placeholders for its inputs, a tuple of its outputs."""
        self.add_initializers(graph.initializers.values())
        frozen = set(graph.initializers.values())
        for value in graph.inputs:
            if value not in frozen:
                self.add_input(value)
        for node in graph:
            self.add(node)
        outputs = tuple(self._output(output) for output in graph.outputs)
        self.tracer.create_node("output", "output", (tuple(proxy.node for proxy in outputs),), {})
        self.graph.eliminate_dead_code()
        self._drop_unused_captures()
        self.graph.lint()
        return fx.GraphModule(self.root, self.graph, class_name=identifier(graph.name or "TorchProgram"))

    def _output(self, output: ir.Value) -> fx.Proxy:
        value = self._known(output)
        if value.proxy is not None:
            return value.proxy
        return self.on_device(value) if value.constant is not None else self.on_host(value)

    def _drop_unused_captures(self) -> None:
        for outer_node, (_, inner) in list(self.captured.items()):
            if not inner.node.users:
                self.graph.erase_node(inner.node)
                del self.captured[outer_node]


def too_large(result: Any) -> bool:
    """Whether a tensor made of sizes is better made again at each run than kept."""
    return isinstance(result, torch.Tensor) and result.numel() > FOLD_LIMIT


def is_statistic(value: ir.Value) -> bool:
    """Whether a constant is a running mean or variance, for which torch has no gradient."""
    return any(use.node.op_type == "BatchNormalization" and use.idx in (3, 4) for use in value.uses())


def nodes_after(graph: fx.Graph, last: fx.Node | None) -> Iterable[fx.Node]:
    """The nodes written after `last`, from the newest backwards."""
    for node in reversed(graph.nodes):
        if node is last:
            return
        yield node
