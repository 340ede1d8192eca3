"""Grow an e-graph by rules until nothing new is found or a limit is reached: one phase of a block.

Every stop is a good stop: the e-graph holds at least the program it was given. The report says why it stopped and which
rule grew it most, and for every rule how often it applied and why it refused.
"""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from .egraph import ABSENT, OUTPUTS, EGraph, Match, Origin, constant_key
from .encode import stated_attributes
from .evaluate import LEFT, CannotEvaluate, evaluate
from .facts import Array, Constant, Contradiction, Fact, item_bytes
from .inference import infer_node
from .opset import TARGET, same_meaning
from .rule import Expression, Pattern, Rule, Skip, Term, Value
from .schema import attribute, since_version

# A fold may not turn a small program into a large file: constants beyond this stay computed, unless no larger
# than what they are computed from.
LARGEST_FOLD = 1 << 26  # bytes
LARGEST_COMPARED = 1 << 18  # elements of a constant that is computed as soon as written, to be compared by contents
MOST_COMPARED = 1 << 25  # elements so compared in one phase
LOOK = 0.01  # seconds between two looks at time and memory spent: system calls, which cost more than most matches do


@dataclass(frozen=True)
class Limits:
    """When to stop: rows in the e-graph, forms of one value, seconds of work, iterations, bytes of resident memory.

    Matches multiply with the forms of each value in a pattern: from several hundred on, a single iteration can take
    more memory than there is before it ends. Models that saturate stay below a hundred.
    """

    rows: int = 20_000
    forms: int = 300
    seconds: float = 10.0
    iterations: int = 60
    memory: int = 16 << 30


@dataclass
class Saturation:
    """What happened: applications and refusals by rule, growth by rule, and why it stopped."""

    stop: str = "saturated"
    iterations: int = 0
    seconds: float = 0.0
    rows: int = 0
    applied: Counter[str] = field(default_factory=lambda: Counter[str]())
    growth: Counter[str] = field(default_factory=lambda: Counter[str]())
    refused: Counter[tuple[str, str]] = field(default_factory=lambda: Counter[tuple[str, str]]())

    def add(self, other: Saturation) -> None:
        """Fold another phase's or block's figures into this one; the first stop that is not "saturated" is kept."""
        self.stop = other.stop if self.stop == "saturated" else self.stop
        self.iterations += other.iterations
        self.seconds += other.seconds
        self.rows += other.rows
        self.applied += other.applied
        self.growth += other.growth
        self.refused += other.refused


class Builder:
    """Puts rules' expressions into an e-graph, giving each new term its facts.

    Args:
        egraph: where to.
        version: opset of the default domain; an operator whose meaning there is not the target opset's is refused.
    """

    def __init__(self, egraph: EGraph, version: int = TARGET) -> None:
        self.egraph = egraph
        self.version = version
        self._left_to_compare = MOST_COMPARED

    def constant(self, array: Array) -> int:
        """The uid of a constant with these contents, shared by all that need it."""
        array = np.asarray(array, order="C")  # not ascontiguousarray: a scalar would become a vector
        dtype = int(ir.DataType.from_numpy(array.dtype))
        return self._shared(Fact(dtype, array.shape, Constant.of(array)))

    def intern(self, term: Term | Array | None, origin: Origin) -> int:
        """The uid of an expression, its sub-expressions first.

        Raises:
            Skip: an operator does not exist at this opset, or its inputs make no sense.
        """
        match term:
            case None:
                return ABSENT
            case Value():
                return term.uid
            case np.ndarray():
                return self.constant(term)
            case Expression():
                children = [self.intern(child, origin) for child in term.inputs]
                return self.node(term.op, term.attributes, children, origin, term.outputs)
        raise TypeError(f"a rule returned {term!r}")

    def node(self, op: str, attributes: Any, children: list[int], origin: Origin, outputs: int | None = None) -> int:
        """The uid of an operator applied to values."""
        if op != "out" and "::" not in op:
            self._check_version(op)
        while children and children[-1] == ABSENT:
            children.pop()
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items() if v is not None}
        stated = stated_attributes(op, given)
        if outputs is not None:
            stated[OUTPUTS] = outputs
        row = self.egraph.row(op, self.egraph.intern(stated), children)
        known = self.egraph.rows.get(row)
        if known is not None:
            return self.egraph.find(known)
        fact = self._fact(op, stated, list(row.children), outputs)
        shared = self._by_contents(fact)
        if shared is not None:
            return shared
        return self.egraph.term(row, fact, origin)

    def _by_contents(self, fact: Fact) -> int | None:
        """The uid of a computed constant, shared by all with the same contents; None where that costs too much to know.

        Constants reached along different ways, sums in another order or a table reshaped and back, otherwise count as
        different values, and every term that reads one multiplies with every way there is.
        """
        constant, size = fact.constant, fact.size
        if constant is None or size is None:
            return None
        elements = size * len(constant)
        if elements > LARGEST_COMPARED or elements > self._left_to_compare:
            return None
        self._left_to_compare -= elements
        try:
            return self._shared(fact)
        except CannotEvaluate:
            return None

    def _shared(self, fact: Fact) -> int:
        constant = fact.constant
        assert constant is not None
        sampled = sorted({0, len(constant) // 2, len(constant) - 1})
        known = self.egraph.constants.setdefault(constant_key(*(constant.array(i) for i in sampled)), [])
        for uid in known:
            if self._equal(constant, self.egraph.fact(uid).constant):
                return uid
        known.append(self.egraph.leaf(fact))
        return known[-1]

    @staticmethod
    def _equal(a: Constant, b: Constant | None) -> bool:
        """Whether both are the same in every instance, not only in those that brought them together."""
        if b is None or len(a) != len(b):
            return False
        return all(constant_key(a.array(i)) == constant_key(b.array(i)) for i in range(len(a)))

    def _check_version(self, op: str) -> None:
        if since_version(op, self.version) is None or not same_meaning(op, self.version):
            raise Skip(f"the file's opset {self.version} has no such {op}")

    def _fact(self, op: str, attributes: dict[str, Any], children: list[int], outputs: int | None) -> Fact:
        if op == "out":
            return self._output_fact(children[0], attributes["index"])
        if outputs is not None:
            return Fact()
        facts = [None if c == ABSENT else self.egraph.fact(c) for c in children]
        inferred = infer_node(op, attributes, facts, self.version)[0]
        return Fact(inferred.dtype, inferred.shape, self._fold(op, attributes, facts, inferred))

    def _output_fact(self, tuple_uid: int, index: int) -> Fact:
        row = self.egraph.tuples.get(self.egraph.find(tuple_uid))
        if row is None:
            raise Skip("an output is taken of what is no node with several outputs")
        attributes = dict(self.egraph.attributes[row.attributes])
        count = attributes.pop(OUTPUTS)
        facts = [None if c == ABSENT else self.egraph.fact(c) for c in row.children]
        inferred = infer_node(row.op, attributes, facts, self.version, outputs=count)[index]
        return Fact(inferred.dtype, inferred.shape)

    def _fold(self, op: str, attributes: dict[str, Any], facts: list[Fact | None], result: Fact) -> Constant | None:
        """A constant term's contents, computed when first wanted; None where a fold is impossible or unwise."""
        if op in LEFT or op == "DequantizeLinear":  # codes that `fold` left are for kernels that take codes
            return None
        if result.dtype is None or result.size is None or (not facts and op != "Constant"):
            return None
        if any(f is not None and f.constant is None for f in facts):
            return None
        bytes_in = sum(_bytes(f) for f in facts if f is not None)
        if _bytes(result) > max(LARGEST_FOLD, bytes_in):
            return None
        constants = [f.constant if f is not None else None for f in facts]
        count = max((len(c) for c in constants if c is not None), default=1)

        def thunk(instance: int) -> Callable[[], Array]:
            def run() -> Array:
                arrays = [None if c is None else c.array(instance) for c in constants]
                return evaluate(op, attributes, arrays, self.version)[0]

            return run

        return Constant([thunk(i) for i in range(count)])


def _bytes(fact: Fact) -> int:
    if fact.dtype is None or fact.size is None:
        return 0
    return int(fact.size * item_bytes(fact.dtype))


def saturate(
    egraph: EGraph,
    rules: Iterable[Rule],
    limits: Limits,
    *,
    version: int = TARGET,
    strict: bool = False,
) -> Saturation:
    """Apply the rules to the e-graph until nothing new is found.

    Args:
        egraph: changed in place.
        rules: those of one phase.
        limits: checked between matches; time and memory every hundredth of a second.
        version: opset of the block.
        strict: raise what a rule raises instead of recording it as a refusal (tests).
    """
    start, worked = time.perf_counter(), time.thread_time()
    report, builder, active = Saturation(), Builder(egraph, version), tuple(rules)
    while report.iterations < limits.iterations:
        before = (len(egraph), _classes_merged(egraph))
        stop = _iterate(egraph, builder, active, limits, worked, report, strict)
        report.iterations += 1
        if stop:
            report.stop = stop
            break
        if (len(egraph), _classes_merged(egraph)) == before:
            break
    else:
        report.stop = f"{limits.iterations} iterations"
    report.seconds, report.rows = time.perf_counter() - start, len(egraph)
    return report


def _classes_merged(egraph: EGraph) -> int:
    return sum(egraph.find(uid) != uid for uid in egraph.rows.values())


def _iterate(
    egraph: EGraph,
    builder: Builder,
    rules: tuple[Rule, ...],
    limits: Limits,
    worked: float,
    report: Saturation,
    strict: bool,
) -> str | None:
    if egraph.most_forms() > limits.forms:
        return f"one value in {limits.forms} forms{_grown_by(report)}"
    look = 0.0
    for match in egraph.matches(rules):
        if len(egraph) > limits.rows:
            return f"{limits.rows} rows{_grown_by(report)}"
        if egraph.fact(match.root).constant is not None:
            continue  # it is folded, however it came about
        if time.perf_counter() >= look:
            if (spent := _spent(limits, worked)) is not None:
                return spent
            look = time.perf_counter() + LOOK
        name, size = match.rule.name, len(egraph)
        try:
            _apply(egraph, builder, match)
        except Skip as reason:
            report.refused[name, str(reason)] += 1
        except Contradiction as reason:
            if strict:
                raise Contradiction(f"{name}: {reason}") from reason
            report.refused[name, f"its result is not of the same kind: {reason}"] += 1
        except Exception as error:
            if strict:
                raise
            report.refused[name, f"internal error: {type(error).__name__}: {error}"] += 1
        else:
            report.applied[name] += 1
            report.growth[name] += len(egraph) - size
    return None


def _spent(limits: Limits, worked: float) -> str | None:
    """Which limit on the process is passed."""
    if time.thread_time() - worked > limits.seconds:  # its own: a busy machine finds what a quiet one does
        return f"{limits.seconds:g} seconds"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > limits.memory:
        return f"{limits.memory >> 20} MiB of memory"
    return None


def _grown_by(report: Saturation) -> str:
    """Which rule grew the e-graph most; nothing when it was as large before."""
    most = report.growth.most_common(1)
    return f", grown most by {most[0][0]}" if most else ""


def _apply(egraph: EGraph, builder: Builder, match: Match) -> None:
    bindings: dict[str, Any] = {"root": Value(egraph, match.root)}
    for pattern, number in match.attributes:
        _bind_attributes(pattern, egraph.attributes[number], bindings)
    for number, uid in match.literals:
        _check_literal(egraph, number, uid)
    for name, uids in match.values.items():
        many = isinstance(uids, tuple)
        bindings[name] = tuple(Value(egraph, u) for u in uids) if many else Value(egraph, uids)
    term = match.rule.apply(bindings)
    sources = dict.fromkeys(s for uid in match.inner for s in egraph.sources_of(uid))
    uid = builder.intern(term, Origin(match.rule.name, tuple(sources)))
    egraph.union(match.root, uid)


def _bind_attributes(pattern: Pattern, stated: Any, bindings: dict[str, Any]) -> None:
    if stated.get(OUTPUTS) != pattern.outputs:
        raise Skip("the node has another number of outputs")
    for name, wanted in pattern.attributes.items():
        if name == "attributes":  # all that are stated, as one dictionary
            bindings[wanted.name] = {k: v for k, v in stated.items() if k != OUTPUTS}
            continue
        found = attribute(pattern.op, stated, name)
        if hasattr(wanted, "name"):
            if bindings.setdefault(wanted.name, found) != found:
                raise Skip(f"{name} differs between the operators")
        elif (tuple(found) if isinstance(found, (list, tuple)) else found) != wanted:
            raise Skip(f"{name} of {pattern.op} is {found}, not {wanted}")
    if "attributes" in pattern.attributes:
        return
    unread = set(stated) - set(pattern.attributes) - {OUTPUTS}
    if unread:
        raise Skip(f"{pattern.op} has an attribute this rule does not read: {', '.join(sorted(unread))}")


def _check_literal(egraph: EGraph, wanted: float, uid: int) -> None:
    value = Value(egraph, uid)
    found = value.scalar
    # The constant was rounded to its own dtype when it was written.
    tolerance = 1e-3 if value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) else 1e-6
    if not np.isclose(found, wanted, rtol=tolerance, atol=0.0):
        raise Skip(f"a constant is {found:g}, not {wanted:g}")
