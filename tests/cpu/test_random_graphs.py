"""Graphs grown from rules' left-hand sides: where several rules meet, the result still computes what the graph did."""

from __future__ import annotations

from functools import cache

import onnx_ir as ir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tamago.compiler.files import from_proto, to_proto
from tamago.compiler.inference import infer
from tamago.compiler.operators import attach
from tamago.compiler.pipeline import compile_traced
from tamago.compiler.trace import trace
from tests.rule_cases import Case, cases, model_of

MOST = 5  # left-hand sides in one graph


def is_static(case: Case) -> bool:
    """Whether every size is known: graphs meet where sizes are equal."""
    model = model_of(case)
    return all(value.shape is not None and value.shape.is_static() for value in model.graph.inputs)


@cache
def seeds() -> list[Case]:
    """Every example that can be joined: each is built to know, so not while tests are collected."""
    return [case for case in cases("examples") if is_static(case)]


def joined(chosen: list[Case]) -> ir.Model:
    """One graph: each pattern reads earlier results where dtype and shape fit, inputs of its own elsewhere."""
    inputs: list[ir.Value] = []
    nodes: list[ir.Node] = []
    constants: list[ir.Value] = []
    results: list[ir.Value] = []
    for number, case in enumerate(chosen):
        graph = model_of(case, seed=number).graph
        for value in list(graph.inputs):
            fitting = [r for r in results if r.dtype == value.dtype and r.shape == value.shape]
            if fitting:
                value.replace_all_uses_with(fitting[-1])
            else:
                value.name = f"{value.name}_{number}"
                inputs.append(value)
        for value in list(graph.initializers.values()):
            del graph.initializers[value.name or ""]
            value.name = f"{value.name}_{number}"
            constants.append(value)
        made, outputs = list(graph), list(graph.outputs)
        graph.outputs.clear()
        graph.inputs.clear()
        graph.remove(made)
        for node in made:
            node.name = f"{node.name}_{number}"
            for value in node.outputs:
                value.name = f"{value.name}_{number}"
        nodes += made
        results += outputs
    ends = [value for value in results if not value.uses()]
    opsets = {"": 23} | {node.domain: 1 for node in nodes if node.domain}
    graph = ir.Graph(inputs, ends, nodes=nodes, initializers=constants, opset_imports=opsets, name="grown")
    model = ir.Model(graph, ir_version=10)
    infer(model)
    attach(model)
    return from_proto(to_proto(model))


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.deferred(lambda: st.lists(st.sampled_from(seeds()), min_size=2, max_size=MOST)))
def test_what_rules_make_of_a_graph_computes_the_same(chosen: list[Case]) -> None:
    traced = trace(joined(chosen))

    compiled = compile_traced(traced, measure=False, strict=True, store=":memory:", threads=1)

    fallback = [note for note in compiled.report.notes if note.startswith("only bit-identical")]
    assert not fallback, f"{[str(case) for case in chosen]}: {fallback}"
