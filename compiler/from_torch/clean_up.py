"""The clean-up of a translated torch model: what torch.onnx.export(optimize=True) does, but for what changes values.

Functions are inlined, shapes folded, and opset-23 operators formed. Tamago would fold the same, but this is the graph
that every user of torch's exporter has, so the one to start from and to be compared with.
"""

# pyright: reportPrivateUsage=false, reportUnknownVariableType=false

from __future__ import annotations

from functools import cache
from typing import Any

import onnx_ir as ir
from onnx_ir.passes import Sequential, common

ROUNDS = 2  # of folding and rewriting, as the exporter has it


def clean_up(model: ir.Model) -> None:
    """Clean the model up in place.

    `Resize` is not folded: onnx's reference code, which does the folding, takes minutes for the position embeddings
    of one vision transformer.
    """
    from onnxscript.optimizer import fold_constants_ir
    from onnxscript.rewriter import RewritePass, onnx_fusions

    common.InlinePass()(model)
    for _ in range(ROUNDS):
        folded = fold_constants_ir(
            model,
            onnx_shape_inference=True,
            should_fold=lambda node: False if node.op_type == "Resize" else None,
        )
        rewritten = RewritePass(exact_rules())(model)
        common.RemoveUnusedNodesPass()(model)
        common.RemoveUnusedFunctionsPass()(model)
        common.RemoveUnusedOpsetsPass()(model)
        if not (folded.modified or rewritten.modified):
            break
    Sequential(
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)
    onnx_fusions.fuse(model)


class Rooted:
    """A rule of onnxscript that is asked only at nodes of the operator that its pattern ends in.

    It would find that out by itself, but slowly: the rules of two results look at the whole graph first, at every node,
    and together they took a third of the time of tracing a language model.
    """

    def __init__(self, rule: Any) -> None:
        self._rule = rule
        self._root = rule._target_pattern.output_nodes[0].op_identifier()  # None: any operator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rule, name)

    def try_rewrite(self, model: ir.Model, graph: ir.Graph | ir.Function, node: ir.Node, **words: Any) -> Any:
        """What the rule makes of the node, if anything."""
        if self._root is not None and node.op_identifier() != self._root:
            return None
        return self._rule.try_rewrite(model, graph, node, **words)


@cache
def exact_rules() -> tuple[Any, ...]:
    """The exporter's rewrites without those that take 1e-9 for zero and 1.00001 for one.

    `x / (total + 1e-9)` would lose what keeps it from dividing by zero. Zeros and ones that are exact are left to our
    own rules.
    """
    from onnxscript import rewriter
    from onnxscript.rewriter.rules.common import _no_op

    inexact = {id(rule) for rule in _no_op.rules}
    return tuple(Rooted(rule) for rule in rewriter._DEFAULT_REWRITE_RULES if id(rule) not in inexact)
