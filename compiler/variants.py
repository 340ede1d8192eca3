"""A block's handful of whole programs, timed as the backend runs them.

Prices of single terms need not add: the runtime fuses again, keeps layouts, shares packed weights. So the cheapest program by
price is only the first candidate. The others leave out one of the operators it introduced (attention as one node,
rotary embedding, …), and the winner of each round is varied again, until no variant is faster.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from .blocks import Block
from .choose import Problem, choose, reachable
from .decode import Choice, decode
from .encode import Encoded
from .ir import constant_tensor

if TYPE_CHECKING:
    from .optimise import Outcome, Target

ROUNDS = 4
GAIN = 0.99  # a variant must run in less than this fraction of the best one's time to replace it


@dataclass(frozen=True)
class Variant:
    """A program, and the operators that were left out to get it."""

    choice: Choice
    banned: frozenset[str]


def best_variant(
    block: Block,
    encoded: Encoded,
    problem: Problem,
    original: Choice,
    first: Variant,
    target: Target,
    deadline: float,
    outcome: Outcome,
) -> Variant:
    """The fastest program found within the time allowed; the program as it was is always a candidate."""
    as_it_was = Variant(original, frozenset())
    models: dict[int, ir.Model] = {}

    def model_of(variant: Variant) -> ir.Model:
        if id(variant) not in models:
            models[id(variant)] = block_model(block, encoded, variant.choice)
        return models[id(variant)]

    best = first
    tried: set[frozenset[str]] = {first.banned}
    candidates = [as_it_was, first]
    for _ in range(ROUNDS):
        left = deadline - time.perf_counter()
        if left <= 0:
            break
        for variant in _without_one(encoded, problem, original, best):
            if variant.banned not in tried:
                tried.add(variant.banned)
                candidates.append(variant)
        times = target.time_blocks([model_of(v) for v in candidates], min(left, 6.0))
        if times is None:
            return first
        outcome.trials += len(candidates)
        ranked = sorted(range(len(candidates)), key=lambda i: times[i])
        winner = candidates[ranked[0]]
        if winner is best or times[candidates.index(best)] * GAIN <= times[ranked[0]]:
            break
        best = winner
        candidates = [as_it_was, best] if best is not as_it_was else [as_it_was]
    return best


def _without_one(encoded: Encoded, problem: Problem, original: Choice, best: Variant) -> list[Variant]:
    """The best program without each operator in turn that a rule brought in."""
    before = {row.op for row in original.values()}
    used = {best.choice[u].op for u in reachable(problem, best.choice)} - before - {"out"}
    variants: list[Variant] = []
    for op in sorted(used):
        banned = best.banned | {op}
        classes = {u: [r for r in rows if r.op not in banned] or rows for u, rows in problem.classes.items()}
        try:
            choice = choose(replace(problem, classes=classes))
        except ValueError:
            continue
        if not _uses(problem, choice, op):
            variants.append(Variant(choice, banned))
    return variants


def _uses(problem: Problem, choice: Choice, op: str) -> bool:
    return any(choice[u].op == op for u in reachable(problem, choice))


def block_model(block: Block, encoded: Encoded, choice: Choice) -> ir.Model:
    """The block's first instance as a model of its own, computed by the chosen program."""
    counter = iter(range(1 << 30))

    def fresh(stem: str) -> str:
        return f"{stem}/{next(counter)}"

    written = decode(block, encoded, choice, 0, fresh)
    instance = block.instances[0]
    wrap: dict[ir.Value, ir.Value] = {}
    initializers: list[ir.Value] = []
    inputs: list[ir.Value] = []
    for value in instance.inputs:
        twin = ir.Value(name=value.name, shape=value.shape, type=value.type, const_value=constant_tensor(value))
        wrap[value] = twin
        (initializers if twin.const_value is not None else inputs).append(twin)
    for value in written.constants:
        wrap[value] = value
        initializers.append(value)
    for node in written.nodes:
        for position, value in enumerate(node.inputs):
            if value is not None and value in wrap:
                node.replace_input_with(position, wrap[value])
    outputs = list(dict.fromkeys(wrap.get(v, v) for v in written.outputs))
    version = {"": encoded.version} | {n.domain: 1 for n in written.nodes if n.domain}
    graph = ir.Graph(
        inputs, outputs, nodes=written.nodes, initializers=initializers, opset_imports=version, name="block"
    )
    return ir.Model(graph, ir_version=10)

