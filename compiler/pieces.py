"""A model in pieces that run one after the other: how one is run of which only a part is held in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from .blocks import instance_of, live_values, operands_of
from .fold import lift_constants
from .inference import infer
from .ir import bodies, constant_tensor, graphs, owners, unique_names
from .mapped import let_go
from .optimise import Names

# What may pass from one piece to the next: arrays of numbers that any runtime takes from Python and gives back.
_PLAIN = frozenset(
    {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BOOL}
    | {ir.DataType[f"{sign}INT{bits}"] for sign in ("", "U") for bits in (8, 16, 32, 64)}
)


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive nodes of a model.

    Args:
        whole: the model they are of.
        nodes: in topological order.
        reads: values that earlier pieces or the caller give.
        constants: initializers that it reads.
        makes: values that later pieces or the caller read.
        identity: equal for pieces that are alike but for what their weights hold.
        bytes: of the weights that it reads.
    """

    whole: ir.Model
    nodes: tuple[ir.Node, ...]
    reads: tuple[ir.Value, ...]
    constants: tuple[ir.Value, ...]
    makes: tuple[ir.Value, ...]
    identity: bytes
    bytes: int

    def model(self) -> ir.Model:
        """The piece as a model of its own, over the same tensors."""
        view = ir.GraphView(
            self.reads,
            self.makes,
            nodes=self.nodes,
            initializers=self.constants,
            opset_imports=self.whole.opset_imports,
            name=self.whole.graph.name,
        )
        functions = [function.clone() for function in self.whole.functions.values()]
        return ir.Model(view.clone(), ir_version=self.whole.ir_version, functions=functions)

    def let_go(self) -> None:
        """Take its weights out of memory, as far as they are a file's."""
        for tensor in (value.const_value for value in self.constants):
            if tensor is not None and tensor.dtype != ir.DataType.STRING:
                let_go(tensor.numpy())


def cut(model: ir.Model, largest: int) -> list[Piece]:
    """The model's pieces in order, each at the place near its end where the fewest values pass to the next.

    Layers that are alike are cut alike, so that few of many pieces differ.

    Args:
        model: topologically sorted; a copy with all shapes that can be known is what the pieces are of.
        largest: bytes of weights in a piece; one that a single node reads more of has no more than that node's.
    """
    model = model.clone()
    names = Names(unique_names(model.graph))
    for inner in list(graphs(model.graph)):
        lift_constants(inner, names)
    infer(model)
    graph, nodes = model.graph, list(model.graph)
    owner_of = owners(graph)
    total = np.concatenate(([0], np.cumsum(_new_bytes(nodes)))).astype(np.int64)
    live = live_values(graph, nodes, owner_of)
    open_ends = live_values(graph, nodes, owner_of, lambda v: not _passes(v)) == 0
    pieces: list[Piece] = []
    start = 0
    while start < len(nodes):
        end = _end(start, total, live, open_ends, largest)
        pieces.append(_piece(model, nodes[start:end], owner_of, int(total[end] - total[start])))
        start = end
    return pieces


def _end(
    start: int,
    total: npt.NDArray[np.int64],
    live: npt.NDArray[np.int64],
    open_ends: npt.NDArray[np.bool_],
    largest: int,
) -> int:
    last = len(total) - 1
    sizes = total[start + 1 :] - total[start]
    ends = np.flatnonzero(open_ends[start + 1 :]) + start + 1
    fitting = ends[sizes[ends - start - 1] <= largest]
    if total[last] - total[start] <= largest:
        return last
    if not len(fitting):
        return int(ends[0]) if len(ends) else last
    full = fitting[sizes[fitting - start - 1] * 2 >= largest]
    choice = full if len(full) else fitting
    return int(min(choice, key=lambda end: (live[end], -end)))


def _passes(value: ir.Value) -> bool:
    return isinstance(value.type, ir.TensorType) and value.dtype in _PLAIN


def _new_bytes(nodes: Sequence[ir.Node]) -> list[int]:
    """For each node, the bytes of the weights that no node before it reads."""
    seen: set[ir.Value] = set()
    found: list[int] = []
    for node in nodes:
        inside = [v for body in bodies(node) for g in graphs(body) for v in g.initializers.values()]
        new = {v for v in (*operands_of(node), *inside) if v is not None and v.const_value is not None} - seen
        seen |= new
        found.append(sum(v.const_value.nbytes for v in new if v.const_value is not None))
    return found


def _piece(model: ir.Model, nodes: Sequence[ir.Node], owner_of: Mapping[ir.Graph, ir.Node], size: int) -> Piece:
    instance, wiring, identity = instance_of(model.graph, nodes, owner_of)
    operands = [operands_of(nodes[node])[operand] for node, operand in wiring.places]
    made = {v for node in nodes for v in node.outputs}
    read = [v for v in dict.fromkeys(operands) if v is not None and v not in made]
    constants = [v for v in read if constant_tensor(v) is not None]
    reads = [v for v in read if constant_tensor(v) is None]
    return Piece(model, tuple(nodes), tuple(reads), tuple(constants), instance.outputs, identity, size)


def distinct(pieces: Sequence[Piece]) -> list[tuple[Piece, int]]:
    """The first of the pieces of each kind, and how many there are of it."""
    counts: dict[bytes, int] = {}
    for piece in pieces:
        counts[piece.identity] = counts.get(piece.identity, 0) + 1
    firsts = {piece.identity: piece for piece in reversed(pieces)}
    return [(firsts[identity], count) for identity, count in counts.items()]


def last_readers(pieces: Sequence[Piece], outputs: Sequence[str]) -> list[set[str]]:
    """For each piece, the names of values that nobody reads after it."""
    gone: list[set[str]] = []
    later = set(outputs)
    for piece in reversed(pieces):
        here = {v.name or "" for v in (*piece.reads, *piece.makes)}
        gone.append(here - later)
        later |= here
    return gone[::-1]
