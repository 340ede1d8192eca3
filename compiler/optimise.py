"""One graph, rewritten: fold, cut into distinct blocks, saturate each, price, choose, write back.

The main line of the compiler between tracing and verification; everything here keeps the graph's meaning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import onnx_ir as ir

from .allowance import Allowance
from .blocks import Block, find_blocks
from .branch_continuation import continue_in_branches, drop_impossible_branches
from .causal_masks import mark_causal_masks
from .choose import Problem, choose, reachable
from .decode import Choice, decode
from .egraph import EGraph, Row
from .encode import Encoded, encode
from .facts import Array
from .fold import fold
from .ir import bodies, graphs, import_domains, unique_names
from .observe import Observer
from .price import Prices, Site, site_of
from .progress import progress
from .rule import Drift, Phase, Rule
from .saturate import Limits, Saturation, saturate
from .shared_sizes import share_sizes
from .splice import splice
from .variants import Trial, Variant, best_variant

PHASES: tuple[Phase, ...] = ("canonicalise", "explore", "lower")


NOVELTY = 1e-6  # milliseconds: of two programs that cost the same, the one with more of the model's own nodes wins


class Target(Protocol):
    """What the main line needs of a backend."""

    def time_blocks(
        self, models: Sequence[ir.Model], seconds: float, feeds: Mapping[str, Array] | None = None
    ) -> list[float] | None:
        """Median milliseconds of whole programs with the same inputs, None where they cannot be run."""
        ...


@dataclass(frozen=True)
class Settings:
    """How far to go.

    Args:
        rules: every rule that may be used.
        drift: "none" keeps only bit-identical rules.
        limits: of each saturation.
        seconds: for measuring prices and block programs, over the whole model.
        until: `time.perf_counter` after which nothing more is measured.
        passes: how often the graph is cut into blocks; the borders move from pass to pass.
        target: times whole block programs; None decides by price alone.
        observe: real inputs for trials of blocks; None where there are none.
        made_up: whether a block may be tried on made-up inputs, if its inputs do not depend on one another.
        strict: let exceptions in rules through (tests).
    """

    rules: tuple[Rule, ...]
    drift: Drift = "rounding"
    limits: Limits = field(default_factory=Limits)
    seconds: float = 20.0
    until: float = float("inf")
    passes: int = 2
    target: Target | None = None
    observe: Observer | None = None
    made_up: bool = True
    strict: bool = False

    def of_phase(self, phase: Phase) -> tuple[Rule, ...]:
        """The rules of one phase and of those before it, as far as the allowed drift admits them.

        What "explore" writes is full of Reshapes and Transposes that only "canonicalise" makes meet and vanish.
        """
        phases = PHASES[: PHASES.index(phase) + 1]
        return tuple(r for r in self.rules if r.phase in phases and (r.drift == "none" or self.drift == "rounding"))


@dataclass
class Outcome:
    """What was done to a model.

    Args:
        saturation: the sum over blocks.
        used: how often each rule's nodes stand in the result.
        worth: predicted milliseconds each rule saves, by price.
        blocks: (nodes, repeats) of each distinct block seen in the first pass.
        folded: nodes removed by folding.
        trials: block programs timed on the target.
        measured: prices that had to be measured.
        kept: blocks left as they were.
        changed: whether any block was rewritten.
        places: for each rule, names of model nodes its own stand for.
    """

    saturation: Saturation = field(default_factory=Saturation)
    used: Counter[str] = field(default_factory=lambda: Counter[str]())
    worth: dict[str, float] = field(default_factory=dict[str, float])
    blocks: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    folded: int = 0
    trials: int = 0
    measured: int = 0
    kept: int = 0
    changed: bool = False
    places: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


class Names:
    """Gives unused names."""

    def __init__(self, taken: set[str]) -> None:
        self._taken, self._counts = taken, Counter[str]()

    def __call__(self, stem: str) -> str:
        """The stem itself when it is free, else the stem with a number."""
        name = stem
        while name in self._taken:
            self._counts[stem] += 1
            name = f"{stem}_{self._counts[stem]}"
        self._taken.add(name)
        return name


def optimise(model: ir.Model, settings: Settings, prices: Prices, infer: Callable[[ir.Model], None]) -> Outcome:
    """Rewrite a model in place to the cheapest equal program found.

    Args:
        model: satisfies the IR's invariants (see `ir.py`).
        settings: rules and limits.
        prices: what terms cost on the target.
        infer: fills shapes and dtypes in place.
    """
    outcome, version = Outcome(), model.opset_imports.get("", 1)
    allowance = Allowance(settings.seconds, settings.until)
    names = Names(unique_names(model.graph))
    outcome.folded += _fold_until_stable(model, version, names, infer)
    if continue_in_branches(model.graph, names):
        outcome.changed = True
        outcome.folded += _fold_until_stable(model, version, names, infer)
        drop_impossible_branches(model.graph, names)
    for turn in range(settings.passes):
        outcome.folded += _fold_until_stable(model, version, names, infer)
        changed = False
        for graph in list(graphs(model.graph)):
            mark_causal_masks(graph)
            blocks = find_blocks(graph, offset=turn * 200)
            # What is gained in a block counts as often as it stands in the model.
            sizes = [len(block.nodes) * len(block.instances) for block in blocks]
            for i, block in enumerate(blocks):
                part = sizes[i] / sum(sizes[i:])
                changed |= _rewrite_block(
                    graph, block, version, settings, prices, names, allowance, outcome, turn, part
                )
        outcome.changed |= changed
        if not changed:
            break
    outcome.folded += _fold_until_stable(model, version, names, infer)
    if share_sizes(model.graph):  # last: what is shared ties the repeats of a block together
        outcome.changed = True
        outcome.folded += _fold_until_stable(model, version, names, infer)
    import_domains(model)
    return outcome


def _fold_until_stable(model: ir.Model, version: int, names: Names, infer: Callable[[ir.Model], None]) -> int:
    folded = 0
    for _ in range(4):
        infer(model)
        found = fold(model.graph, version, names)
        folded += found
        if not found:
            break
    return folded


def _rewrite_block(
    graph: ir.Graph,
    block: Block,
    version: int,
    settings: Settings,
    prices: Prices,
    names: Names,
    allowance: Allowance,
    outcome: Outcome,
    turn: int,
    part: float,
) -> bool:
    progress(f"pass {turn + 1}: block of {len(block.nodes)} nodes, {len(block.instances)} times")
    if turn == 0:
        outcome.blocks.append((len(block.nodes), len(block.instances)))
    encoded = encode(block, version, context=settings.target is None or settings.observe is not None)
    egraph = encoded.egraph
    try:
        for phase in PHASES:
            rules = settings.of_phase(phase)
            outcome.saturation.add(saturate(egraph, rules, settings.limits, version=version, strict=settings.strict))
    finally:
        egraph.close()
    problem = problem_of(encoded, prices)
    original = original_choice(encoded)
    choice, exact = _priced_choice(problem, egraph, original, prices, allowance, outcome)
    variant = Variant(choice, frozenset())
    # Bodies are moved when a block is written, so a block that holds some is written once, without trials.
    plain = not any(bodies(node) for node in block.nodes)
    if settings.target is not None and plain and not _unchanged(block, problem, choice, original):
        made_up = settings.made_up and not encoded.context
        trial = Trial(
            *(block, encoded, problem, original, prices, settings.target, allowance, outcome),
            observe=settings.observe,
            exact=exact,
            made_up=made_up,
            part=part,
        )
        variant = best_variant(trial, variant)
    if _unchanged(block, problem, variant.choice, original):
        outcome.kept += 1
        return False
    _account(problem, egraph, original, variant.choice, outcome, len(block.instances))
    shared: dict[int, ir.Value] = {}
    for index, instance in enumerate(block.instances):
        splice(graph, instance, decode(block, encoded, variant.choice, index, names, shared), names)
    return True


def problem_of(encoded: Encoded, prices: Prices) -> Problem:
    """The extraction problem of a saturated block: constants and inputs are free."""
    egraph = encoded.egraph
    classes = egraph.classes()
    constants = {uid for uid in classes if egraph.fact(uid).constant is not None}
    inputs = {egraph.find(i) for i in (*encoded.inputs, *(uid for uid, _ in encoded.context))}
    return Problem(
        classes,
        tuple(egraph.find(o) for o in encoded.outputs),
        frozenset(constants | inputs | {egraph.find(u) for u in _leaves(egraph, classes)}),
        lambda uid, row: prices.price(site_of(egraph, uid, row)) + (NOVELTY if egraph.origins[row].rule else 0.0),
    )


def _leaves(egraph: EGraph, classes: dict[int, list[Row]]) -> set[int]:
    used = {c for rows in classes.values() for row in rows for c in row.children}
    return {u for u in used if u not in classes}


def original_choice(encoded: Encoded) -> dict[int, Row]:
    """The program as it was, in the saturated e-graph's canonical rows."""
    egraph = encoded.egraph
    choice: dict[int, Row] = {}
    for uid, row in encoded.program.items():
        canonical = egraph.row(row.op, row.attributes, row.children)
        egraph.origins.setdefault(canonical, egraph.origins[row])
        choice.setdefault(egraph.find(uid), canonical)
    return choice


def _priced_choice(
    problem: Problem, egraph: EGraph, original: Choice, prices: Prices, allowance: Allowance, outcome: Outcome
) -> tuple[Choice, bool]:
    """Choose, measure what was chosen and has only an estimate, and choose again until nothing chosen is a guess.

    Returns:
        The choice, and whether the integer program found better than greedy extraction.
    """
    exact = False
    choice = choose(problem, exact=False)
    for _ in range(10):
        wanted = [(u, choice[u]) for u in reachable(problem, choice)]
        wanted += [(u, r) for u, r in original.items() if u in problem.classes and u not in problem.free]
        sites: list[Site] = [site_of(egraph, u, r) for u, r in wanted]
        with allowance.spending():
            found = prices.ensure(sites, allowance.left)
        outcome.measured += found
        if not found and exact:
            return choice, True
        if found:
            problem.prices.clear()
        greedy = choose(problem, exact=False)
        choice = greedy if found else choose(problem)
        exact = choice != greedy
        if not found and not exact:
            return choice, False
    return choice, exact


def _unchanged(block: Block, problem: Problem, choice: Choice, original: Choice) -> bool:
    """Whether the choice is the program as it was: every row one of its own, and none of its nodes merged away."""
    used = reachable(problem, choice)
    nodes = sum(choice[u].op != "out" for u in used)
    return nodes == len(block.nodes) and all(u in original and choice[u] == original[u] for u in used)


def _account(
    problem: Problem, egraph: EGraph, original: Choice, choice: Choice, outcome: Outcome, repeats: int
) -> None:
    """Which rules' nodes stand in the result, and what they save by price: what they replace minus what they cost."""
    before = {u: problem.price(u, original[u]) for u in reachable_original(problem, original)}
    after = {u: problem.price(u, choice[u]) for u in reachable(problem, choice)}
    gone = sum(before.values()) - sum(p for u, p in before.items() if u in after and choice[u] == original.get(u))
    by_rule: Counter[str] = Counter()
    for uid in after:
        origin = egraph.origins[choice[uid]]
        if origin.rule is not None:
            by_rule[origin.rule] += 1
            outcome.used[origin.rule] += repeats
            outcome.places.setdefault(origin.rule, []).append(" ".join(origin.sources))
    new = {r: sum(p for u, p in after.items() if egraph.origins[choice[u]].rule == r) for r in by_rule}
    saved = gone - sum(new.values())
    weight = sum(by_rule.values())
    for name, count in by_rule.items():
        outcome.worth[name] = outcome.worth.get(name, 0.0) + saved * count / weight * repeats


def reachable_original(problem: Problem, original: Choice) -> list[int]:
    """The classes the program as it was computes (merged classes count once)."""
    try:
        return reachable(problem, original)
    except KeyError:
        return [u for u in original if u not in problem.free]
