"""Do prices add up? Predicted against measured latency of random programs: `python -m tests.benchmarks.price_model`.

For the block of a model that repeats most, programs are drawn at random from its saturated e-graph (every term's price
times a random factor, then the cheapest program), and of two hundred the twenty that spread most evenly over the range
of predictions are run: most draws differ by less than the clock can tell. Predicted is the sum of the terms' measured
prices; measured is the program as the runtime runs it. Wanted: correlation of at least 0.9, median error of at most
10 % after one common factor. Where that is missed the choice rests on the timing of whole blocks
(`compiler/variants.py`), not on sums.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass

import numpy as np
import onnx_ir as ir

from tamago.backends.onnxruntime.run import processor
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler.blocks import find_blocks
from tamago.compiler.choose import Problem, choose, reachable
from tamago.compiler.decode import Choice
from tamago.compiler.encode import encode
from tamago.compiler.fold import fold
from tamago.compiler.inference import infer
from tamago.compiler.ir import unique_names
from tamago.compiler.opset import to_target
from tamago.compiler.optimise import PHASES, Names, Settings, problem_of
from tamago.compiler.prepare import prepare
from tamago.compiler.price import Prices, site_of
from tamago.compiler.saturate import saturate
from tamago.compiler.store import Store
from tamago.compiler.trace import trace
from tamago.compiler.variants import block_model
from tamago.rewrites import all_rules
from tests.zoo.models import zoo

CHOICES = 20
DRAWN = 200
MODELS = ("bert", "llama", "convnext")


@dataclass(frozen=True)
class Result:
    """One model's block: milliseconds by price and by the clock, and how well they agree."""

    name: str
    nodes: int
    predicted: list[float]
    measured: list[float]
    correlation: float
    error: float


def check(name: str, scale: str, store: Store) -> Result:
    """Draw, price and time the programs of one model's main block."""
    module, args, kwargs = zoo()[name](scale)  # type: ignore[arg-type]
    model = trace(module, args, kwargs).model
    target = OnnxRuntime(threads=1)
    _bring_in(model)
    block = max(find_blocks(model.graph), key=lambda b: len(b.instances) * len(b.nodes))
    version = model.opset_imports[""]
    encoded = encode(block, version)
    settings = Settings(rules=(*all_rules(), *target.rules()))
    for phase in PHASES:
        saturate(encoded.egraph, settings.of_phase(phase), settings.limits, version=version)
    prices = Prices(store, target.environment, lambda site: target.price(site, version))
    problem = problem_of(encoded, prices)
    drawn = _random_choices(problem)
    for choice in drawn:
        prices.ensure([site_of(encoded.egraph, u, choice[u]) for u in reachable(problem, choice)], lambda: 1.0)
    sums = [
        sum(prices.price(site_of(encoded.egraph, u, choice[u])) for u in reachable(problem, choice)) for choice in drawn
    ]
    spread = _spread(sums)
    choices, predicted = [drawn[i] for i in spread], [sums[i] for i in spread]
    measured = target.time_blocks([block_model(block, encoded, c) for c in choices], 60.0)
    assert measured is not None, "the block's inputs cannot be made up"
    p, m = np.asarray(predicted), np.asarray(measured)
    alive = np.isfinite(m)
    p, m = p[alive], m[alive]
    factor = float(np.median(m / p))
    ranks = [np.argsort(np.argsort(x)) for x in (p, m)]
    error = float(np.median(np.abs(p * factor / m - 1)))
    return Result(name, len(block.nodes), p.tolist(), m.tolist(), float(np.corrcoef(ranks[0], ranks[1])[0, 1]), error)


def _bring_in(model: ir.Model) -> None:
    prepare(model)
    to_target(model)
    infer(model)
    fold(model.graph, model.opset_imports[""], Names(unique_names(model.graph)))
    infer(model)


def _spread(sums: list[float]) -> list[int]:
    """The draws nearest to evenly spaced predictions, each once."""
    found: list[int] = []
    for wanted in np.linspace(min(sums), max(sums), CHOICES):
        left = [i for i in range(len(sums)) if i not in found]
        found.append(min(left, key=lambda i: abs(sums[i] - wanted)))
    return found


def _random_choices(problem: Problem) -> list[Choice]:
    generator = np.random.default_rng(0)
    found: list[Choice] = []
    for _ in range(DRAWN):
        factors = {row: float(generator.lognormal(0, 1.5)) for rows in problem.classes.values() for row in rows}
        drawn = Problem(
            problem.classes,
            problem.roots,
            problem.free,
            lambda uid, row, factors=factors: problem.price(uid, row) * factors[row],
        )
        found.append(choose(drawn, exact=False))
    return found


def main() -> int:
    """Check the models, print a line each; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", default=list(MODELS))
    parser.add_argument("--scale", default="real", choices=["real", "small"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results: list[Result] = []
    with Store.open(":memory:") as store:
        for name in options.names:
            results.append(check(name, options.scale, store))
            if not options.json:
                r = results[-1]
                spread = f"{min(r.measured):.2f}-{max(r.measured):.2f} ms"
                agreement = f"rank correlation {r.correlation:.2f}  error {r.error:.1%}"
                print(f"{r.name:12} {r.nodes:4} nodes  {spread}  {agreement}")
    if options.json:
        print(json.dumps({"processor": processor(), "results": [asdict(r) for r in results]}, indent=1))
    return 0 if all(r.correlation >= 0.9 and r.error <= 0.1 for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
