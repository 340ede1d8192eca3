"""Patterns as egglog queries, and operators as egglog constructors: text for the engine that `egraph.py` runs.

A pattern with variadic parts (`Rest`) becomes one query for each choice of arities that occurs in the graph. The row
that a query finds has a column for each thing the match is made of: classes, attribute numbers, literals.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from .pointwise import COMMUTATIVE
from .rule import Number, Pattern, Rest, Rule, Var


@dataclass
class Query:
    """One pattern of one rule for one choice of arities.

    Args:
        rule: whose pattern it is.
        pattern: what is looked for.
        atoms: as egglog reads them.
        columns: of what is found, each a kind and the part of the pattern that it stands for.
        relation: where what is found is kept; given when the query is declared.
    """

    rule: Rule
    pattern: Pattern
    atoms: str
    columns: list[tuple[str, Any]]
    relation: str = ""


@cache
def operators_of(pattern: Pattern) -> frozenset[str]:
    """Every operator that a pattern needs."""
    inner = [operators_of(child) for child in pattern.inputs if isinstance(child, Pattern)]
    return frozenset({pattern.op}).union(*inner)


def rests(pattern: Pattern) -> Iterable[Rest]:
    """The variadic parts of a pattern."""
    for child in pattern.inputs:
        if isinstance(child, Rest):
            yield child
        elif isinstance(child, Pattern):
            yield from rests(child)


def symbol(op: str, arity: int) -> str:
    """The constructor's name for an operator of so many inputs."""
    return f"o_{re.sub(r'[^A-Za-z0-9]', '_', op)}_{arity}"


def declaration(op: str, arity: int) -> str:
    """The constructor of an operator of so many inputs, and the relation that its terms come in by."""
    name, names = symbol(op, arity), [f"x{i}" for i in range(arity)]
    classes = " ".join(f"(V {n})" for n in names)
    unions = f"(union (V r) ({name} a {classes}))"
    if op in COMMUTATIVE and arity == 2:
        unions += f" (union (V r) ({name} a (V x1) (V x0)))"
    return (
        f"(constructor {name} (i64{' T' * arity}) T)"
        f"(relation in_{name} (i64 i64{' i64' * arity}))"
        f"(rule ((in_{name} r a {' '.join(names)}))"
        f" ({unions} (delete (in_{name} r a {' '.join(names)}))) :ruleset load)"
    )


@dataclass
class _Walked:
    """Collects the atoms of one pattern while it is walked."""

    atoms: list[str] = field(default_factory=list)
    columns: list[tuple[str, Any]] = field(default_factory=list)
    names: dict[object, str] = field(default_factory=dict)

    def column(self, kind: str, what: Any) -> str:
        self.columns.append((kind, what))
        return f"c{len(self.columns) - 1}"


def queries(declared: Rule, pattern: Pattern, arities: Mapping[str, set[int]]) -> list[Query]:
    """The queries of one pattern: one for each combination of arities its variadic parts have in the graph."""
    found: list[Query] = []
    for choice in _choices(pattern, arities):
        walked = _Walked()
        _walk(pattern, choice, walked)
        found.append(Query(declared, pattern, " ".join(walked.atoms), walked.columns))
    return found


def _choices(pattern: Pattern, arities: Mapping[str, set[int]]) -> list[dict[int, int]]:
    """For every sub-pattern (by identity) an arity that occurs in the graph; empty when one cannot occur."""
    parts: list[Pattern] = []

    def gather(part: Pattern) -> None:
        if any(p is part for p in parts):
            return
        parts.append(part)
        for child in part.inputs:
            if isinstance(child, Pattern):
                gather(child)

    gather(pattern)
    choices: list[dict[int, int]] = [{}]
    for part in parts:
        fixed = [c for c in part.inputs if not isinstance(c, Rest)]
        variadic = len(fixed) < len(part.inputs)
        fitting = sorted(a for a in arities.get(part.op, ()) if a == len(fixed) or (variadic and a >= len(fixed)))
        choices = [{**choice, id(part): arity} for choice in choices for arity in fitting]
    return choices


def _walk(pattern: Pattern, arity: Mapping[int, int], walked: _Walked) -> str:
    known = walked.names.get(id(pattern))
    if known is not None:
        return known
    name = walked.names[id(pattern)] = walked.column("inner", pattern)
    attributes = walked.column("attributes", pattern)
    children: list[str] = []
    for child in pattern.inputs:
        match child:
            case Pattern():
                children.append(_walk(child, arity, walked))
            case Var():
                if child.name not in walked.names:
                    walked.names[child.name] = walked.column("value", child.name)
                children.append(walked.names[child.name])
            case Rest():
                missing = arity[id(pattern)] - (len(pattern.inputs) - 1)
                children += [walked.column("rest", child.name) for _ in range(missing)]
            case Number():
                children.append(walked.column("literal", child.number))
    walked.atoms.append(f"(= {name} ({symbol(pattern.op, len(children))} {attributes} {' '.join(children)}))")
    return name
