"""A block's handful of whole programs, timed as the backend runs them.

Prices of single terms need not add: the runtime fuses again, keeps layouts, shares packed weights. So the cheapest
program by price is only the first candidate. Prices are measured, and scatter: of programs that cost much the same one
with fewer operators is tried as well, and preferred where the clock finds no difference. The others leave out one of
the operators that were introduced (attention as one node, rotary embedding, …), and the winner of each round is varied
again, until no variant is faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from .allowance import Allowance
from .blocks import Block
from .choose import Problem, choose, reachable, total
from .decode import Choice, decode
from .egraph import Row
from .encode import Encoded
from .facts import Array, Fact
from .ir import constant_tensor
from .observe import Observer
from .price import Prices, key_of, site_of

if TYPE_CHECKING:
    from .optimise import Outcome, Target

ROUNDS = 4
LONGEST = 2.5  # seconds for one comparison of a block's programs
AGAIN = 1.2  # seconds for the winner of many beside the one it would replace
PRICED = 6  # times that a choice is priced and made again
GAIN = 0.99  # a variant must run in less than this fraction of the best one's time to replace it
SCATTER = 0.03  # of prices, relative to the whole program's


@dataclass(frozen=True)
class Variant:
    """A program, the operators that were left out to get it, and whether fewer operators were worth a higher price."""

    choice: Choice
    banned: frozenset[str]
    plain: bool = False


@dataclass(frozen=True)
class Trial:
    """What a block's candidates are made from and judged by.

    Args:
        block: where the winner goes.
        encoded: its saturated e-graph.
        problem: the extraction problem, with prices.
        original: the program as it was.
        prices: their store keeps the verdict.
        target: times whole programs.
        allowance: how long trials may take.
        outcome: counts trials.
        observe: real inputs for the block's values; None where there are none.
        made_up: whether made-up inputs will do.
        exact: whether the integer program found better than greedy extraction here, and so may again.
        part: of the time that is left, what this block's trials may take: the other blocks want theirs.
    """

    block: Block
    encoded: Encoded
    problem: Problem
    original: Choice
    prices: Prices
    target: Target
    allowance: Allowance
    outcome: Outcome
    observe: Observer | None
    exact: bool
    made_up: bool = False
    part: float = 1.0

    @cached_property
    def handicap(self) -> float:
        """Milliseconds that every operator costs more where fewer are wanted."""
        return SCATTER * total(self.problem, choose(self.problem, exact=False))


def best_variant(trial: Trial, first: Variant) -> Variant:
    """The fastest program found within the time allowed; the program as it was is always a candidate.

    The verdict is kept in the store under the block's structure, so the same block is not tried again, and
    equal stores give equal programs.
    """
    plainest = _plainest(trial, first)
    key = _key(trial, [first] if plainest is None else [first, plainest])
    known = trial.prices.store.verdict(key)
    recalled = None if known is None else _recall(trial, first, plainest, known)
    if recalled is not None:
        return recalled
    best, certain = _climb(trial, first, plainest)
    if certain:
        original, program = best.choice is trial.original, _identity(trial, best.choice)
        verdict = {"original": original, "banned": sorted(best.banned), "plain": best.plain, "program": program}
        trial.prices.store.put_verdict(key, verdict)
    return best


def _plainest(trial: Trial, first: Variant) -> Variant | None:
    """A program of fewer operators that costs much the same by price, None where there is no such."""
    price = total(trial.problem, first.choice)
    found = _without(trial, first.banned, plain=True)
    if found is None or _length(trial, found) >= _length(trial, first):
        return None
    return found if total(trial.problem, found.choice) <= (1 + SCATTER) * price else None


def _climb(trial: Trial, first: Variant, plainest: Variant | None) -> tuple[Variant, bool]:
    """Hill climbing over what to leave out; the second is False when time ran out before anything was decided."""
    as_it_was = Variant(trial.original, frozenset())
    best, candidates = first, [as_it_was, first]
    tried = {_program(trial, first)}
    feeds = _inputs(trial)
    if feeds is None and not trial.made_up:
        return first, False
    of_others = (1 - trial.part) * trial.allowance.left()
    for turn in range(ROUNDS):
        left = trial.allowance.left() - of_others
        if left <= 0:
            return best, False
        others = _without_one(trial, best)
        for variant in [plainest, *others] if plainest is not None and turn == 0 else others:
            program = _program(trial, variant)
            if program not in tried:
                tried.add(program)
                candidates.append(variant)
        models = [block_model(trial.block, trial.encoded, v.choice) for v in candidates]
        with trial.allowance.spending():
            times = trial.target.time_blocks(models, min(left, LONGEST), feeds)
        if times is None:
            return first, False
        trial.outcome.trials += len(candidates)
        if plainest in candidates and times[candidates.index(plainest)] * GAIN <= times[candidates.index(best)]:
            best = plainest
        fastest = min(range(len(candidates)), key=times.__getitem__)
        replaced = candidates.index(best)
        if times[replaced] * GAIN <= times[fastest] or not _again(trial, models[replaced], models[fastest], feeds):
            break
        best = candidates[fastest]
        candidates = [as_it_was] if best is as_it_was else [as_it_was, best]
    return best, True


def _again(trial: Trial, best: ir.Model, fastest: ir.Model, feeds: Mapping[str, Array] | None) -> bool:
    """Whether the fastest of many is faster a second time, beside the best so far alone: the least of many is lucky."""
    with trial.allowance.spending():
        times = trial.target.time_blocks([best, fastest], AGAIN, feeds)
    return times is not None and times[1] < times[0] * GAIN


def _inputs(trial: Trial) -> dict[str, Array] | None:
    """Arrays that the model itself computes for the block's first instance."""
    if trial.observe is None or trial.made_up:
        return None
    read = dict.fromkeys(trial.block.inputs(trial.block.instances[0]))
    read |= dict.fromkeys(value for _, value in trial.encoded.context)
    return trial.observe([v for v in read if constant_tensor(v) is None])


def _key(trial: Trial, variants: Sequence[Variant]) -> str:
    """The block as it was and as it was first chosen, in order, with shapes: what a verdict depends on."""
    programs = [_identity(trial, choice) for choice in (trial.original, *(v.choice for v in variants))]
    text = "\n".join([f"variants 3 {trial.prices.environment}", *programs])
    return blake2b(text.encode(), digest_size=20).hexdigest()


def _identity(trial: Trial, choice: Choice) -> str:
    """What a program computes and how: equal for equal programs of other blocks, by other names."""
    text = blake2b(digest_size=20)
    numbers: dict[int, int] = {}
    for uid in reachable(trial.problem, choice):
        row = choice[uid]
        numbers[uid] = len(numbers)
        operands = [numbers.get(c, _leaf(trial.encoded.egraph.fact(c))) for c in row.children]
        site = site_of(trial.encoded.egraph, uid, row)
        text.update(f"{key_of(site, '')}{operands};".encode())
    return text.hexdigest()


def _leaf(fact: Fact) -> str:
    return f"{fact.dtype}{fact.shape}{fact.constant is not None}"


def _recall(trial: Trial, first: Variant, plainest: Variant | None, verdict: Mapping[str, Any]) -> Variant | None:
    """The program that won; None where it is not found again: prices decide what stands in a left out operator's place.

    An operator without a price yet looks cheap, and where the verdict was made it may not have been there at all.
    """
    found = _described(trial, first, plainest, verdict)
    return found if found is not None and _identity(trial, found.choice) == verdict.get("program") else None


def _described(trial: Trial, first: Variant, plainest: Variant | None, verdict: Mapping[str, Any]) -> Variant | None:
    if verdict.get("original") is True:
        return Variant(trial.original, frozenset())
    banned, plain = frozenset(str(op) for op in verdict.get("banned", ())), verdict.get("plain") is True
    if banned:
        return _without(trial, banned, plain=plain)
    return plainest if plain else first


def _without_one(trial: Trial, best: Variant) -> list[Variant]:
    """The best program without each operator in turn that a rule brought in."""
    before = {row.op for row in trial.original.values()}
    used = {best.choice[u].op for u in reachable(trial.problem, best.choice)} - before - {"out"} - trial.prices.settled
    found = [_without(trial, best.banned | {op}, plain=best.plain) for op in sorted(used)]
    return [v for v in found if v is not None]


def _without(trial: Trial, banned: frozenset[str], *, plain: bool) -> Variant | None:
    """The cheapest program that uses none of these operators, None where there is no such."""
    classes = {u: [r for r in rows if r.op not in banned] for u, rows in trial.problem.classes.items()}
    problem = replace(trial.problem, classes=classes)
    if plain:
        price, each = trial.problem.price, trial.handicap
        problem = replace(problem, cost=lambda uid, row: price(uid, row) + each, prices={})
    try:
        _measure_what_is_chosen(trial, problem)
        # A handicap is rough, and so may be what it leads to: the integer program takes as long as all else here.
        return Variant(choose(problem, exact=trial.exact and not plain), banned, plain)
    except ValueError:
        return None


def _measure_what_is_chosen(trial: Trial, problem: Problem) -> None:
    """Until nothing chosen is a guess: an operator that nobody has measured looks cheaper than those that were."""
    for _ in range(PRICED):
        choice = choose(problem, exact=False)
        sites = [site_of(trial.encoded.egraph, u, choice[u]) for u in reachable(problem, choice)]
        with trial.allowance.spending():
            found = trial.prices.ensure(sites, trial.allowance.left)
        if not found:
            return
        trial.outcome.measured += found
        for known in (problem.prices, trial.problem.prices):
            known.clear()


def _program(trial: Trial, variant: Variant) -> frozenset[tuple[int, Row]]:
    """What a variant computes, and how."""
    return frozenset((u, variant.choice[u]) for u in reachable(trial.problem, variant.choice))


def _length(trial: Trial, variant: Variant) -> int:
    return len(reachable(trial.problem, variant.choice))


def block_model(block: Block, encoded: Encoded, choice: Choice) -> ir.Model:
    """The block's first instance as a model of its own, computed by the chosen program."""
    counter = iter(range(1 << 30))

    def fresh(stem: str) -> str:
        return f"{stem}/{next(counter)}"

    written = decode(block, encoded, choice, 0, fresh)
    wrap: dict[ir.Value, ir.Value] = {}
    initializers: list[ir.Value] = []
    inputs: list[ir.Value] = []
    read = {v for node in written.nodes for v in node.inputs} | set(written.outputs)
    beside = [value for _, value in encoded.context if value in read]
    for value in dict.fromkeys([*block.inputs(block.instances[0]), *beside]):
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
