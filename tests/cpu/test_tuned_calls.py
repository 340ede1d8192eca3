"""A program's calls of kernels are read as jobs, and take the settings that the records have for them."""

from __future__ import annotations

from typing import Any

import torch

from tamago.backends.triton.jobs import GemvJob, GemvNBitsJob, Job
from tamago.backends.triton.jobs.subject import relative_error
from tamago.backends.triton.regions import fused_products
from tamago.backends.triton.run import Program
from tamago.backends.triton.tune import Tuner
from tamago.compiler.store import Store
from tests.cpu.test_fused_products import HIDDEN, WIDTH, Graph, layer

DTYPE = "float32"


class Asked(Tuner):
    """Remembers what it is asked for, and answers with a number for each."""

    def __init__(self) -> None:
        super().__init__(Store.open(":memory:"), "a device", measure=False)
        self.jobs: list[Job] = []

    def candidate(self, job: Job) -> list[int] | None:
        self.jobs.append(job)
        return [len(self.jobs)]


def asked(graph: Graph) -> tuple[list[Job], list[Any]]:
    """The jobs of a layer's program, and the settings that its calls of kernels have."""
    found = fused_products(layer(graph)) or layer(graph)
    tuner = Asked()
    module = Program(found, tuner, device="cpu").module
    calls = [n for n in module.graph.nodes if str(n.target).startswith("tamago.")]
    return tuner.jobs, [n.args[-1] for n in calls]


def test_products_of_one_row() -> None:
    jobs, settings = asked(Graph(packed=False))

    assert jobs == [
        GemvJob(HIDDEN, WIDTH, DTYPE, gated=True, normed=True, residual=False, activation="Silu"),
        GemvJob(WIDTH, HIDDEN, DTYPE, gated=False, normed=False, residual=True, activation=""),
    ]
    assert settings == [[1], [2]]


def test_products_in_few_bits_of_one_row_and_of_a_few() -> None:
    for rows, known in ((1, 1), (3, 16), (16, 16)):
        jobs, settings = asked(Graph(packed=True, rows=rows, zeros=rows != 3))
        form = (known, 4, 32, rows != 3, DTYPE)
        assert jobs == [
            GemvNBitsJob(HIDDEN, WIDTH, *form, gated=True, normed=True, residual=False, activation="Silu"),
            GemvNBitsJob(WIDTH, HIDDEN, *form, gated=False, normed=False, residual=True, activation=""),
        ]
        assert settings == [[1], [2]]


def test_more_rows_than_the_kernel_takes_are_nothing_to_tune() -> None:
    assert asked(Graph(packed=True, rows=17)) == ([], [None, None])


def test_what_computes_a_zero_point_must_be_awaited() -> None:
    """The kernel reads what belongs to its weights before the one ahead has ended: only constants may be."""
    model = fused_products(layer(Graph(packed=True, rows=1)))
    assert model is not None
    module = Program(model, None, device="cpu").module
    sources = {n.name: n for n in model.graph.all_nodes()}
    call = next(iter(module.graph.find_nodes(op="call_function", target=GemvNBitsJob.target)))
    source = sources.get(call.meta["onnx"][2])
    assert GemvNBitsJob.of_call(module, call, source) is not None

    with module.graph.inserting_before(call):
        computed = module.graph.call_function(torch.bitwise_not, (call.args[3],))
    call.update_arg(3, computed)

    assert GemvNBitsJob.of_call(module, call, source) is None


def test_the_error_of_several_results_is_the_largest_and_none_that_is_no_number_is_passed_over() -> None:
    right, wrong = torch.ones(4, dtype=torch.double), torch.full((4,), torch.nan)

    assert relative_error((right, 2 * right), (right, right)) == 1
    assert relative_error(right.half(), right) == 0
    for found in ((right, wrong), (wrong, right)):
        assert not relative_error(found, (right, right)) <= 1
