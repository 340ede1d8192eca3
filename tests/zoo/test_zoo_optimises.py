"""Every model of the zoo, at its small scale, optimised: it saturates, verifies, and loses nodes."""

import pytest

from tamago.compiler.pipeline import compile_traced
from tamago.compiler.trace import trace

from .models import zoo

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", sorted(zoo()))
def test_the_optimised_model_computes_what_the_traced_one_does(name: str) -> None:
    module, args, kwargs = zoo()[name]("small")
    traced = trace(module, args, kwargs)
    assert traced.signature is not None

    # A failed comparison raises; without measuring the choice is the same however busy the machine.
    feeds = traced.signature.flatten(args, kwargs)
    compiled = compile_traced(traced, feeds, measure=False, strict=True, store=":memory:", threads=1)

    assert compiled.report.outcome is not None
    assert compiled.report.outcome.saturation.stop == "saturated"
    assert compiled.report.verdict in ("not timed", "no gain")
    assert compiled.report.after.nodes <= compiled.report.before.nodes
    assert not any(note.startswith("only bit-identical") for note in compiled.report.notes)
