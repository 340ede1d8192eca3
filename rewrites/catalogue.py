"""The table of all rules and methods in `rewrites/README.md`, written by `python -m tamago.rewrites.catalogue`."""

from __future__ import annotations

import sys
from pathlib import Path

from ..compiler.approximate.method import Method
from ..compiler.approximate.preparation import Preparation
from ..compiler.approximate.repair import Repair
from ..compiler.approximate.structure import Structure
from ..compiler.rule import Rule
from . import all_methods, all_preparations, all_repairs, all_rules, all_structures
from .declined import DECLINED

HEAD = """# Exact rewrites

One identity a file, by family. A rule states what it finds, what it becomes, under which facts, and its drift:
`none` (bit-identical for every input, NaN and −0 included) or `rounding` (equal over the reals; reassociates).
Every rule only *adds* an equal term; the price decides what is used. Its examples are its tests.

"Known to" names the optimisers that do the same; rules without an entry are done by none of ONNX Runtime's L1 rules,
onnxslim, onnxsim, onnxoptimizer and onnxscript. What only one runtime has a kernel for is offered by its backend
(`backends/*/alternatives/`), in the same form.

This page is written by `python -m tamago.rewrites.catalogue`; a test compares it with the rules.
"""


METHODS_HEAD = """# Approximate methods

Used only under an error budget (`tamago.Budget`). A method offers forms of a *place*, a node that reads a weight; each
form's rise of the loss is predicted, its time measured, and one choice is made over all places together
(`compiler/approximate/`). No form is ever an equal term of the e-graph.

| method | what it does | places | source | file |
|---|---|---|---|---|"""

PREPARATIONS_HEAD = """
## Preparations

Exact over the reals and made before anything is approximated, in the same operators: what comes after loses less. Only
where milliseconds count, and where the weights fit into memory (`compiler/approximate/preparation.py`).

| preparation | identity | source | file |
|---|---|---|---|"""

STRUCTURES_HEAD = """
## Whole programs

A structure makes the whole program narrower, more and more; each variant's rise and time are measured, and forms of
places are then chosen on those that promise something (`compiler/approximate/variants.py`).

| structure | what it does | source | file |
|---|---|---|---|"""

REPAIRS_HEAD = """
## Repairs

A repair changes what constants hold after the choice is made, so that a cheaper one fits. Asking for it by name
(`methods=["perp"]`: with every method) is what turns it on (`compiler/approximate/repaired.py`).

| repair | what it does | source | file |
|---|---|---|---|"""

DECLINED_HEAD = """
## Declined

Asking for one of these (`methods=[…]`) answers with the reason.

| method | why not |
|---|---|"""


def catalogue() -> str:
    """The page: one table for each family, and one of the methods."""
    parts = [HEAD]
    for family in dict.fromkeys(rule.family for rule in all_rules()):
        rules = [rule for rule in all_rules() if rule.family == family]
        parts.append(f"## {family} ({len(rules)})\n")
        parts.append("| rule | identity | drift | known to | file |\n|---|---|---|---|---|")
        parts += [_row(rule, rule.drift, rule.peers or "–") for rule in rules]
        parts.append("")
    parts.append(METHODS_HEAD)
    parts += [_row(method, ", ".join(method.kinds), method.paper) for method in all_methods()]
    parts.append(PREPARATIONS_HEAD)
    parts += [_row(preparation, preparation.paper) for preparation in all_preparations()]
    parts.append(STRUCTURES_HEAD)
    parts += [_row(structure, structure.paper) for structure in all_structures()]
    parts.append(REPAIRS_HEAD)
    parts += [_row(repair, repair.paper) for repair in all_repairs()]
    parts.append(DECLINED_HEAD)
    parts += [f"| {name} | {reason} |" for name, reason in DECLINED.items()]
    parts.append("")
    return "\n".join(parts)


def _row(entry: Rule | Method | Preparation | Structure | Repair, *cells: str) -> str:
    """Name, statement, these, and the file."""
    place = Path(sys.modules[entry.function.__module__].__file__ or "")
    statement = entry.statement.replace("|", "\\|")
    return " | ".join([f"| `{entry.name}`", statement, *cells, f"`{place.parent.name}/{place.name}` |"])


if __name__ == "__main__":
    from ..compiler.files import write_text

    write_text(Path(__file__).with_name("README.md"), catalogue())
