"""The exporter's rules are asked where their patterns can end, and nowhere else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import onnx_ir as ir
import pytest

from tamago.compiler.from_torch.clean_up import Rooted, exact_rules


class Asked:
    """A rule whose pattern ends in an operator, or in any, and which says where it was asked."""

    name = "asked"

    def __init__(self, root: tuple[str, str, str] | None) -> None:
        self._target_pattern = SimpleNamespace(output_nodes=[SimpleNamespace(op_identifier=lambda: root)])
        self.nodes: list[ir.Node] = []

    def try_rewrite(self, model: Any, graph: Any, node: ir.Node, **words: Any) -> str:
        del model, graph, words
        self.nodes.append(node)
        return "rewritten"


@pytest.mark.parametrize(("root", "count"), [(("", "Relu", ""), 1), (("ai.other", "Relu", ""), 0), (None, 2)])
def test_a_rule_is_asked_at_its_own_operator_alone(root: tuple[str, str, str] | None, count: int) -> None:
    nodes = [ir.Node("", "Relu", [None]), ir.Node("", "Neg", [None])]
    graph = ir.Graph([], [], nodes=nodes, opset_imports={"": 18})
    model, rule = ir.Model(graph, ir_version=10), Asked(root)
    rooted = Rooted(rule)

    found = [rooted.try_rewrite(model, graph, node, verbose=None, tracer=None) for node in nodes]

    assert rule.nodes == nodes[:count]
    assert found.count("rewritten") == count
    assert rooted.name == "asked"


def test_the_exporter_s_rules_all_say_what_they_end_in() -> None:
    rules = exact_rules()

    assert len(rules) > 20
    assert all(rule._target_pattern.output_nodes for rule in rules)
