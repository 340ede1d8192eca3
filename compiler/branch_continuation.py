"""What follows an If moves into its branches, where the branches hand out values of different rank.

After such an If nothing is known of ranks, and exporters write questions (Shape, Size, further Ifs) to find out at run
time which way was taken. Inside each branch the answer is a constant: the questions fold, and one decision is left.
Every node runs as often as before; only the graph holds it twice (tail duplication).

Where one of the two continuations cannot run at all, a recurrent layer given a value of rank 4, the runtime would
refuse the file although it never goes that way. Going there is an error of the original, so the other way is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from .ir import bodies, captured, constant_tensor, dims, graphs, new_constant, op_name

Fresh = Callable[[str], str]
LONGEST = 200  # nodes that are written twice
QUESTIONS = frozenset({"Shape", "Size", "If"})
RANKS = {"LSTM": 3, "GRU": 3, "RNN": 3, "Gemm": 2}  # of the first operand, whatever else holds


def continue_in_branches(graph: ir.Graph, fresh: Fresh) -> int:
    """Move what follows into the branches, wherever that decides questions of rank.

    Args:
        graph: with shapes as far as they are known; changed in place, bodies included.
        fresh: gives an unused name that starts with its argument.

    Returns:
        How many Ifs took in what follows them.
    """
    done = 0
    for inner in list(graphs(graph)):
        for node in list(inner):
            if op_name(node) == "If" and _differs_in_rank(node) and _move(inner, node, fresh):
                done += 1
                break  # the rest of this graph is in the branches now
    return done


def drop_impossible_branches(graph: ir.Graph, fresh: Fresh) -> int:
    """Decide every If of which one branch cannot run, by making its condition a constant.

    Args:
        graph: with shapes as far as they are known; changed in place, bodies included.
        fresh: gives an unused name that starts with its argument.

    Returns:
        How many were decided.
    """
    done = 0
    for inner in list(graphs(graph)):
        for node in [n for n in inner if op_name(n) == "If" and len(bodies(n)) == 2]:
            then, otherwise = (node.attributes[name].as_graph() for name in ("then_branch", "else_branch"))
            if _cannot_run(then) == _cannot_run(otherwise):
                continue
            condition = new_constant(fresh("tamago/condition"), np.asarray(_cannot_run(otherwise)))
            inner.register_initializer(condition)
            node.replace_input_with(0, condition)
            done += 1
    return done


def _cannot_run(body: ir.Graph) -> bool:
    operands = [(node.op_type, node.inputs[0]) for node in body if node.domain == "" and node.op_type in RANKS]
    shapes = [(op_type, dims(value)) for op_type, value in operands if value is not None]
    return any(shape is not None and len(shape) != RANKS[op_type] for op_type, shape in shapes)


def _differs_in_rank(node: ir.Node) -> bool:
    if node.inputs[0] is None or constant_tensor(node.inputs[0]) is not None:
        return False
    attributes = [node.attributes.get(name) for name in ("then_branch", "else_branch")]
    if any(a is None or a.is_ref() for a in attributes):
        return False
    pairs = zip(*(a.as_graph().outputs for a in attributes if a is not None), strict=True)
    ranks = [[None if (shape := dims(value)) is None else len(shape) for value in pair] for pair in pairs]
    return any(None not in pair and pair[0] != pair[1] for pair in ranks)


def _move(graph: ir.Graph, node: ir.Node, fresh: Fresh) -> bool:
    tail = _followers(graph, node)
    if not 0 < len(tail) <= LONGEST or not any(op_name(n) in QUESTIONS | RANKS.keys() for n in tail):
        return False
    exits = [v for v in graph.outputs if v.producer() is node or v.producer() in tail]
    if len(set(exits)) < len(exits) or any(v.producer() is node for v in exits):
        return False
    interface = [ir.Value(name=fresh(v.name or "value"), shape=v.shape, type=v.type) for v in node.outputs]
    for old, new in zip(node.outputs, interface, strict=True):
        old.replace_all_uses_with(new)
    positions = [graph.outputs.index(v) for v in exits]
    results = [ir.Value(name=v.name, shape=v.shape, type=v.type, doc_string=v.doc_string) for v in exits]
    for position, old, new in zip(positions, exits, results, strict=True):
        new.metadata_props.update(old.metadata_props)
        graph.outputs[position] = new
        old.name = fresh(old.name or "value")
    graph.remove(tail)
    continuation = ir.Graph(interface, exits, nodes=tail, name=fresh("continuation"))
    # The last use of the graph gives its own nodes away; the first is a copy.
    branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    for branch, rest in zip(branches, (continuation.clone(allow_outer_scope_values=True), continuation), strict=True):
        _append(branch, rest, fresh)
    attributes = [ir.AttrGraph(n, b) for n, b in zip(("then_branch", "else_branch"), branches, strict=True)]
    merged = ir.Node(
        "",
        "If",
        [node.inputs[0]],
        attributes,
        outputs=results,
        name=node.name,
        metadata_props=dict(node.metadata_props),
    )
    graph.append(merged)  # last: nothing that is left needs it, and it may read anything that is left
    graph.remove(node, safe=True)
    return True


def _followers(graph: ir.Graph, node: ir.Node) -> list[ir.Node]:
    """Every node of the graph that needs an output of this one, in order."""
    reached = set(node.outputs)
    found: list[ir.Node] = []
    for other in graph:
        if any(v in reached for v in (*other.inputs, *captured(other))):
            found.append(other)
            reached.update(other.outputs)
    return found


def _append(branch: ir.Graph, rest: ir.Graph, fresh: Fresh) -> None:
    """Let a branch go on with the rest, its names made new."""
    for old, new in zip(list(rest.inputs), list(branch.outputs), strict=True):
        old.replace_all_uses_with(new)
    outputs, nodes = list(rest.outputs), list(rest)
    rest.outputs.clear()
    rest.remove(nodes)
    for inner in nodes:
        _rename(inner, fresh)
    branch.outputs.clear()
    branch.extend(nodes)
    branch.outputs.extend(outputs)


def _rename(node: ir.Node, fresh: Fresh) -> None:
    node.name = fresh(node.name or node.op_type)
    for value in node.outputs:
        value.name = fresh(value.name or "value")
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph():
                _rename(inner, fresh)
            for value in list(attribute.as_graph().initializers.values()):
                del attribute.as_graph().initializers[value.name or ""]
                value.name = fresh(value.name or "constant")
                attribute.as_graph().register_initializer(value)
