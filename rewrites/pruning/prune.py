"""The line that all scores share: groups, scores, units that go, weights fitted again, variants of growing share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import onnx_ir as ir

from ...compiler.approximate.structure import Observed, Variant
from ...compiler.facts import Floats
from ...compiler.rule import Skip
from .compensation import compensated
from .costs import unit_costs
from .coupling import channel_groups
from .groups import Group
from .heads import head_groups
from .moments import Reading, readings
from .refit import refitted
from .removal import Kept, without
from .selection import select

FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.5)
Score = Callable[[Observed, Sequence[Group]], list[Floats]]


def prunable(model: ir.Model) -> list[Group]:
    """Heads and channels, each weight's axis in one group.

    Raises:
        Skip: there are none, and why.
    """
    heads, refused_heads = head_groups(model)
    channels, refused = channel_groups(model)
    claimed = {claim for g in heads for claim in g.claims}
    found = heads + [g for g in channels if not g.claims & claimed]
    if not found:
        reasons = Counter(r.reason for r in (*refused_heads, *refused))
        first = reasons.most_common(1)
        raise Skip(first[0][0] if first else "no constant makes channels")
    return found


def variants(observed: Observed, score: Score) -> Iterator[Variant]:
    """Programs with fewer and fewer units, those of the least score for their cost gone.

    Args:
        observed: the program.
        score: for each group a number for each unit: the loss without it, up to a factor that all groups share.

    Raises:
        Skip: the program has no units that could go.
    """
    groups, known = observed.once(_read)
    costs, scores = unit_costs(observed.model, groups), score(observed, groups)
    last = [g.units for g in groups]
    for fraction in FRACTIONS:
        stay = select(groups, scores, costs, fraction)
        if [len(s) for s in stay] == last:
            continue
        last = [len(s) for s in stay]
        kept = [(g, s) for g, s in zip(groups, stay, strict=True) if len(s) < g.units]
        gone, units = sum(g.units - len(s) for g, s in kept), sum(g.units for g in groups)
        setting = f"{fraction:.0%}: {gone} of {units} units in {len(kept)} of {len(groups)} groups"
        yield Variant(setting, *pruned(observed, known, kept))


def _read(observed: Observed) -> tuple[list[Group], list[Reading]]:
    groups = prunable(observed.model)
    return groups, readings(observed, groups)


def pruned(observed: Observed, known: Sequence[Reading], kept: Kept) -> tuple[ir.Model, Callable[[], ir.Model]]:
    """The program with only these units, and what reads them fitted to that; what fits it once more, for as long again.

    Args:
        observed: the program.
        known: what reads units of its groups.
        kept: for each group that loses units, those that stay.
    """
    contents = refitted(known, kept)
    narrower = without(observed.model, kept, contents)
    return narrower, lambda: without(observed.model, kept, compensated(observed, narrower, known, kept, contents))
