"""A block's equalities, kept by egglog: the only module that knows egglog (its queries: `egglog_queries.py`).

egglog holds the terms, merges equal ones (congruence) and finds where a pattern matches. Python holds what a
term *is* (its facts) and decides, through the rules' guards, what to add. The traffic is bulk both ways, because
one command costs egglog about a millisecond: new rows go in as one tab-separated file per iteration (3,000 rows: 4 ms,
against 18 s as single commands), matches and classes come back as one JSON text (10,000 rows: 70 ms).

Encoding. A value is a number, `uid`; `(V uid)` is its class. A term is a row `(o_<op>_<arity> attributes children…)`,
its attributes interned as a number. Commutative operators are stored in both orders, so patterns need no variants.
Only patterns whose operators occur in the graph are ever declared.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from egglog.bindings import EGraph as Engine

from .egglog_queries import Query, declaration, operators_of, queries, rests, symbol
from .facts import Array, Fact
from .hidden_scores import with_hidden
from .ir import digest
from .pointwise import COMMUTATIVE
from .rule import Pattern, Rule

OUTPUTS = "outputs "  # attribute (no ONNX name has a space) that says a row stands for several outputs
ABSENT = 0  # the uid of an optional input that is left out


ConstantKey = tuple[str, tuple[int, ...], tuple[str, ...]]


def constant_key(*arrays: Array) -> ConstantKey:
    """What makes two constants equal: dtype, shape and contents in every instance given."""
    return str(arrays[0].dtype), arrays[0].shape, tuple(map(digest, arrays))


@dataclass(frozen=True)
class Row:
    """One term: an operator with interned attributes applied to classes; `uid` is its value."""

    op: str
    attributes: int
    children: tuple[int, ...]


@dataclass
class Origin:
    """Why a term is here: the rule that made it (None: the model) and the model's nodes it stands for."""

    rule: str | None
    sources: tuple[str, ...]
    node: object | None = None  # the model's own node, for terms that were in the model


@dataclass(frozen=True)
class Match:
    """A place where a pattern fits: uids (canonical) by variable, attribute numbers by pattern."""

    rule: Rule
    root: int
    values: Mapping[str, int | tuple[int, ...]]
    attributes: tuple[tuple[Pattern, int], ...]
    literals: tuple[tuple[float, int], ...]
    inner: tuple[int, ...]


class EGraph:
    """Equal terms of one block.

    Args:
        instances: how many repeats of the block share this e-graph (constants hold one array for each).
    """

    def __init__(self, instances: int = 1) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tamago-"))  # ours alone: mode 0700
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._engine: Engine | None = Engine(fact_directory=self._folder)
        self._instances = instances
        self._facts: list[Fact] = []
        self._parent: list[int] = []
        self.attributes: list[Mapping[str, Any]] = []
        self._attribute_numbers: dict[str, int] = {}
        self.rows: dict[Row, int] = {}
        self.origins: dict[Row, Origin] = {}
        # Shared constants by contents in a few instances; those equal in every one are one class.
        self.constants: dict[ConstantKey, list[int]] = {}
        self.tuples: dict[int, Row] = {}  # what makes a class that stands for several outputs
        self._sources: dict[int, tuple[str, ...]] = {}
        self._pending: dict[tuple[str, int], list[str]] = {}
        self._same: list[tuple[int, int]] = []
        self._arities: dict[str, set[int]] = {}
        self._operators = 0  # each arity of each counts
        self._declared: dict[str, int] = {}  # by rule, how many operators there were
        self._asked: dict[tuple[str, Pattern], int] = {}  # by a rule's pattern, how many of its own
        self._queries: dict[str, list[Query]] = {}
        self._files = 0
        self._seen: set[tuple[str, tuple[int, ...]]] = set()
        self._run(
            "(sort T)(constructor V (i64) T)(relation same (i64 i64))(ruleset load)(ruleset match)(ruleset forget)"
        )
        # What was loaded or reported is forgotten at once, so that the JSON holds terms and news only.
        self._run("(rule ((same a b)) ((union (V a) (V b)) (delete (same a b))) :ruleset load)")
        self.leaf(Fact())  # uid 0: ABSENT

    # --- building ---------------------------------------------------------------------------------------------

    def leaf(self, fact: Fact) -> int:
        """A value that the block does not compute: its input, or a constant."""
        self._facts.append(fact)
        self._parent.append(len(self._parent))
        return len(self._facts) - 1

    def intern(self, attributes: Mapping[str, Any]) -> int:
        """The number of an attribute dictionary; equal dictionaries have one number."""
        key = repr([(k, _comparable(attributes[k])) for k in sorted(attributes)])
        number = self._attribute_numbers.get(key)
        if number is None:
            number = self._attribute_numbers[key] = len(self.attributes)
            self.attributes.append(dict(attributes))
        return number

    def row(self, op: str, attributes: int, children: Iterable[int]) -> Row:
        """The term's canonical row: children as classes, a commutative pair in rising order."""
        found = tuple(self.find(c) for c in children)
        if op in COMMUTATIVE and len(found) == 2 and found[0] > found[1]:
            found = (found[1], found[0])
        return Row(op, attributes, found)

    def term(self, row: Row, fact: Fact, origin: Origin) -> int:
        """The uid of a term, new or already present (then the fact is joined)."""
        uid = self.rows.get(row)
        if uid is not None:
            return self.find(uid)
        operands = [None if c == ABSENT else self.fact(c) for c in row.children]
        uid = self.leaf(with_hidden(row.op, operands, fact))
        self.rows[row] = uid
        self.origins[row] = origin
        if OUTPUTS in self.attributes[row.attributes]:
            self.tuples[uid] = row
        if origin.sources:
            self._sources[uid] = origin.sources
        if fact.constant is None:  # a constant is folded, however it came about: egglog need not match inside it
            line = "\t".join(map(str, (uid, row.attributes, *row.children)))
            self._pending.setdefault((row.op, len(row.children)), []).append(line)
        return uid

    def union(self, a: int, b: int) -> None:
        """Declare two values equal.

        Raises:
            Contradiction: their facts cannot both be true; nothing is changed.
        """
        a, b = self.find(a), self.find(b)
        if a == b:
            return
        joined = self._facts[a].join(self._facts[b])
        keep, drop = min(a, b), max(a, b)
        self._redirect(drop, keep, joined)
        self._same.append((keep, drop))

    # --- asking -----------------------------------------------------------------------------------------------

    def find(self, uid: int) -> int:
        """The canonical uid of a class."""
        while self._parent[uid] != uid:
            self._parent[uid] = self._parent[self._parent[uid]]
            uid = self._parent[uid]
        return uid

    def fact(self, uid: int) -> Fact:
        """What is known of the value."""
        return self._facts[self.find(uid)]

    def sources_of(self, uid: int) -> tuple[str, ...]:
        """Names of the model's nodes that a value stands for."""
        return self._sources.get(self.find(uid), ())

    def instances(self) -> int:
        """How many repeats of the block share this e-graph."""
        return self._instances

    def __len__(self) -> int:
        return len(self.rows)

    def most_forms(self) -> int:
        """How many terms the value has that has most."""
        return max(Counter(self.find(uid) for uid in self.rows.values()).values(), default=0)

    def classes(self) -> dict[int, list[Row]]:
        """Every class with its terms in canonical form, oldest first, each once."""
        classes: dict[int, dict[Row, None]] = {}
        for row, uid in self.rows.items():
            canonical = self.row(row.op, row.attributes, row.children)
            known = self.origins.setdefault(canonical, self.origins[row])
            if known.rule is not None and self.origins[row].rule is None:
                self.origins[canonical] = self.origins[row]  # a term the model itself had stays the model's
            classes.setdefault(self.find(uid), {}).setdefault(canonical)
        return {uid: list(rows) for uid, rows in classes.items()}

    # --- egglog -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of egglog; terms and facts stay, nothing more can be matched.

        egglog wants to be dropped by the thread that made it; the garbage collector may run in any.
        """
        self._engine = None

    def matches(self, rules: Iterable[Rule]) -> list[Match]:
        """Load what is new, let egglog merge and match once, and return the places not yet reported."""
        self._load()
        for declared in rules:
            self._declare(declared)
        self._run("(run-schedule (saturate (run load)) (run match))")
        found = self._read()
        self._run("(run-schedule (run forget))")
        return found

    def _run(self, program: str) -> None:
        assert self._engine is not None, "the e-graph is closed"
        self._engine.run_program(*self._engine.parse_program(program))

    def _load(self) -> None:
        for (op, arity), lines in self._pending.items():
            arities = self._arities.setdefault(op, set())
            if arity not in arities:
                arities.add(arity)
                self._operators += 1
                self._run(declaration(op, arity))
            self._input(f"in_{symbol(op, arity)}", lines)
        self._pending = {}
        if self._same:
            self._input("same", [f"{a}\t{b}" for a, b in self._same])
            self._same = []

    def _input(self, relation: str, lines: list[str]) -> None:
        self._files += 1
        path = self._folder / f"{self._files}.csv"
        path.write_text("\n".join(lines))
        self._run(f'(input {relation} "{path.name}")')
        path.unlink()

    def _declare(self, declared: Rule) -> None:
        if self._declared.get(declared.name) == self._operators:
            return  # no operator or arity has appeared since
        self._declared[declared.name] = self._operators
        if not (patterns := [p for p in declared.patterns if self._concerned(declared, p)]):
            return
        declared_so_far = self._queries.setdefault(declared.name, [])
        # By pattern too: two patterns that differ in attributes or literals alone ask the same of egglog.
        known = {(v.pattern, v.atoms) for v in declared_so_far}
        for pattern in patterns:
            for query in queries(declared, pattern, self._arities):
                if (pattern, query.atoms) in known:
                    continue
                query.relation = f"m{sum(map(len, self._queries.values()))}"
                types = " ".join("i64" if kind == "attributes" else "T" for kind, _ in query.columns)
                heads = " ".join(f"c{i}" for i in range(len(query.columns)))
                self._run(
                    f"(relation {query.relation} ({types}))"
                    f"(rule ({query.atoms}) (({query.relation} {heads})) :ruleset match)"
                    f"(rule (({query.relation} {heads})) ((delete ({query.relation} {heads}))) :ruleset forget)"
                )
                declared_so_far.append(query)
                known.add((pattern, query.atoms))

    def _concerned(self, declared: Rule, pattern: Pattern) -> bool:
        """Whether all of a pattern's operators are there, one of them in an arity that was not when last asked."""
        operators = operators_of(pattern)
        if not operators <= self._arities.keys():
            return False
        key = declared.name, pattern
        before, self._asked[key] = self._asked.get(key), sum(len(self._arities[op]) for op in operators)
        return before != self._asked[key]

    def _read(self) -> list[Match]:
        assert self._engine is not None, "the e-graph is closed"
        text = self._engine.serialize([], max_functions=None, max_calls_per_function=None).to_json()
        nodes: dict[str, dict[str, Any]] = json.loads(text)["nodes"]
        uid_of: dict[str, int] = {}
        for node in nodes.values():
            if node["op"] == "V":
                uid = int(nodes[node["children"][0]]["op"])
                best = uid_of.get(node["eclass"])
                if best is not None and self.find(best) != self.find(uid):
                    self._merge(best, uid)
                uid_of[node["eclass"]] = uid if best is None else min(best, uid)
        by_relation = {v.relation: v for vs in self._queries.values() for v in vs}
        found: list[Match] = []
        for node in nodes.values():
            query = by_relation.get(node["op"])
            if query is not None:
                self._collect(query, [nodes[c] for c in node["children"]], uid_of, found)
        # egglog's row order is not ours to rely on: oldest classes first makes every run alike.
        found.sort(key=lambda m: (m.rule.name, m.root, m.inner, tuple(a for _, a in m.attributes)))
        return found

    def _merge(self, a: int, b: int) -> None:
        """Congruence found two classes equal; their facts were computed from equal inputs and so agree."""
        keep, drop = min(self.find(a), self.find(b)), max(self.find(a), self.find(b))
        self._redirect(drop, keep, self._facts[keep].join(self._facts[drop]))

    def _redirect(self, drop: int, keep: int, fact: Fact) -> None:
        self._parent[drop] = keep
        self._facts[keep] = fact
        if drop in self.tuples:
            self.tuples.setdefault(keep, self.tuples[drop])
        if drop in self._sources:
            self._sources.setdefault(keep, self._sources[drop])

    def _collect(self, query: Query, cells: list[dict[str, Any]], uid_of: dict[str, int], found: list[Match]) -> None:
        numbers = [
            int(cell["op"]) if kind == "attributes" else self.find(uid_of[cell["eclass"]])
            for cell, (kind, _) in zip(cells, query.columns, strict=True)
        ]
        key = (query.relation, tuple(numbers))
        if key in self._seen:
            return
        self._seen.add(key)
        values: dict[str, int | tuple[int, ...]] = {}
        attributes: list[tuple[Pattern, int]] = []
        literals: list[tuple[float, int]] = []
        inner: list[int] = []
        for number, (kind, what) in zip(numbers, query.columns, strict=True):
            match kind:
                case "attributes":
                    attributes.append((what, number))
                case "literal":
                    literals.append((what, number))
                case "rest":
                    gathered = values.get(what, ())
                    values[what] = (*gathered, number) if isinstance(gathered, tuple) else (number,)
                case "value":
                    values[what] = number
                case _:
                    inner.append(number)
                    if what.name is not None:
                        values[what.name] = number
        if _contains_itself(query.columns, numbers, values):
            return
        for what in (p.name for pattern in query.rule.patterns for p in rests(pattern)):
            values.setdefault(what, ())
        found.append(Match(query.rule, inner[0], values, tuple(attributes), tuple(literals), tuple(inner)))


def _contains_itself(
    columns: Iterable[tuple[str, Any]], numbers: Iterable[int], values: Mapping[str, int | tuple[int, ...]]
) -> bool:
    """Whether a matched term is its own operand, as x = x·1 makes one: no program uses it, rewriting may not end."""
    nodes = {id(what): (what, number) for number, (kind, what) in zip(numbers, columns, strict=True) if kind == "inner"}
    for what, number in nodes.values():
        for child in what.inputs:
            operand = nodes[id(child)][1] if id(child) in nodes else values.get(getattr(child, "name", None) or "")
            if operand == number or (isinstance(operand, tuple) and number in operand):
                return True
    return False


def _comparable(value: Any) -> Any:
    return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value
