"""What an owner may ask for, how calibration is read and split, and which samples may be run together."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

import tamago
from tamago.compiler.approximate import calibration as calibrations
from tamago.compiler.approximate.budget import NAMES, Budget
from tamago.compiler.approximate.calibration import MOST, SMALLEST, Sample, Split, read_samples, split, without_repeats
from tamago.compiler.approximate.stack import examples, run_together, stacked, takes_batches, together
from tamago.compiler.facts import Array
from tamago.compiler.within_budget import Request


def accuracy(outputs: Sequence[Any], targets: Sequence[Any]) -> float:
    return float(np.mean([np.argmax(o) == t for o, t in zip(outputs, targets, strict=True)]))


def mean_square(outputs: Any, target: Any) -> Any:
    return ((outputs - target) ** 2).mean()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"metric": accuracy}, "U040"),
        ({"drop": 0.01}, "U040"),
        ({"metric": accuracy, "drop": 0.01, "loss": "mse"}, "U041"),
        ({"metric": accuracy, "drop": 0.01, "loss": mean_square}, "U041"),
        ({"absolute": 0.1, "rise": 0.05}, "U041"),
        ({"absolute": 0.1, "rise": 0.01}, "U041"),  # as much as holds where nothing is said, but said
        ({"metric": accuracy, "drop": 0.01, "rise": 0.01}, "U041"),
        ({"metric": accuracy, "drop": 0.01, "absolute": 0.01}, "U041"),
        ({"loss": "crossentropy"}, "U042"),
        ({"loss": ""}, "U042"),
        ({"loss": 3}, "U042"),
        ({"metric": "accuracy", "drop": 0.01}, "U040"),
        ({"rise": None}, "U043"),
        ({"rise": -0.01}, "U043"),
        ({"rise": float("nan")}, "U043"),
        ({"rise": float("inf")}, "U043"),
        ({"rise": True}, "U043"),
        ({"rise": "1%"}, "U043"),
        ({"absolute": -1.0}, "U043"),
        ({"metric": accuracy, "drop": -0.01}, "U043"),
        ({"size": -1}, "U043"),
        ({"latency": -0.5}, "U043"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(words: dict[str, Any], code: str) -> None:
    with pytest.raises(tamago.TamagoError) as error:
        Budget(**words)

    assert error.value.code == code
    assert error.value.todo


@pytest.mark.parametrize("name", [*NAMES, None, mean_square])
def test_losses_by_name_by_function_and_none(name: Any) -> None:
    assert Budget(loss=name).loss is name


def test_a_bound_alone_is_the_bound_also_in_a_copy() -> None:
    assert Budget(absolute=0.1).allowed == 0.1
    assert Budget(metric=accuracy, drop=0.1).allowed == 0.1
    assert copy.deepcopy(replace(Budget(absolute=0.1), size=3)).allowed == 0.1
    assert json.dumps(Budget().allowed) == "0.01"


@pytest.mark.parametrize("number", [1, 0.25, np.float32(0.25), np.int64(2)])
def test_a_bound_is_a_number_of_any_kind(number: Any) -> None:
    assert Budget(rise=number).allowed == number


@pytest.mark.parametrize("rises", [0.1, "0.1", None, {0.1}, [0.1, "1%"]])
def test_bounds_that_are_no_list_of_numbers_are_refused(rises: Any) -> None:
    with pytest.raises(tamago.TamagoError) as error:
        Budget(loss="kl").bounds(rises)

    assert error.value.code == "U043"


@pytest.mark.parametrize("rises", [[0.1, 0.2], (0.1, 0.2), np.asarray([0.1, 0.2])])
def test_bounds_take_the_place_of_what_is_allowed(rises: Any) -> None:
    assert [b.allowed for b in Budget(loss="kl").bounds(rises)] == [0.1, 0.2]
    assert [b.drop for b in Budget(metric=accuracy, drop=0.5).bounds(rises)] == [0.1, 0.2]
    assert [b.absolute for b in Budget(loss="kl", absolute=0.5).bounds(rises)] == [0.1, 0.2]


@pytest.mark.parametrize("budget", [0.01, "1%", {"rise": 0.01}])
def test_a_budget_that_is_none_is_refused_before_any_work(budget: Any) -> None:
    with pytest.raises(tamago.TamagoError) as error:
        tamago.compile(b"", budget=budget, calibration=[])
    assert error.value.code == "U043"
    assert "Budget(" in error.value.todo

    with pytest.raises(tamago.TamagoError, match="M0"):  # with a budget it is the model that is looked at
        tamago.compile(b"", budget=Budget(), calibration=[])


@pytest.mark.parametrize("methods", [["gptq"], ("gptq", "perp"), "gptq", None])
def test_a_frontier_takes_methods_as_compile_does(methods: Any) -> None:
    for call in (tamago.compile, tamago.frontier):
        with pytest.raises(tamago.TamagoError, match="M0"):  # it is the model that is looked at
            call(b"", budget=Budget(), calibration=[], methods=methods)


@pytest.mark.parametrize("methods", [3, [["gptq"]], ["nothing_known"]])
def test_a_frontier_refuses_methods_as_compile_does(methods: Any) -> None:
    for call in (tamago.compile, tamago.frontier):
        with pytest.raises(tamago.TamagoError, match="U050"):
            call(b"", budget=Budget(), calibration=[], methods=methods)


@pytest.mark.parametrize(
    "given",
    [
        {"workloads": [(np.zeros(1), 1.0)]},
        {"methods": "gptq"},
        {"methods": ["gptq"], "workloads": [(1, 1)]},
        {"methods": (name for name in ["gptq"])},
        {"workloads": iter([(1, 1)])},
        {"workloads": 3},
    ],
)
def test_what_only_a_budget_has_use_for_is_refused_without_one(given: dict[str, Any]) -> None:
    with pytest.raises(tamago.TamagoError) as error:
        tamago.compile(b"", **given)
    assert error.value.code == "U054"
    assert all(name in error.value.what for name in given)

    with pytest.raises(tamago.TamagoError, match="M0"):  # with a budget it is the model that is looked at
        tamago.compile(b"", budget=Budget(), calibration=[], **given)


@pytest.mark.parametrize("given", [{}, {"workloads": None, "methods": None}, {"workloads": [], "methods": []}])
def test_nothing_that_only_a_budget_has_use_for_is_nothing_to_refuse(given: dict[str, Any]) -> None:
    with pytest.raises(tamago.TamagoError, match="M0"):
        tamago.compile(b"", **given)


def test_nothing_is_allowed_by_position() -> None:
    with pytest.raises(TypeError):
        Budget("mse")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("budget", "allowed", "text"),
    [
        (Budget(loss="kl", rise=0.02), 0.02, "kl may rise by 0.02"),
        (Budget(loss="kl", absolute=0.25), 0.25, "kl may rise by 0.25"),
        (Budget(rise=0.005), 0.005, "relative error of the outputs at most 0.500%"),
        (Budget(), 0.01, "relative error of the outputs at most 1.000%"),
        (Budget(metric=accuracy, drop=0.01), 0.01, "metric may drop by 0.01"),
        (Budget(loss="mse", rise=0.0), 0.0, "mse may rise by 0"),
    ],
)
def test_a_budget_in_words_and_as_a_number(budget: Budget, allowed: float, text: str) -> None:
    assert budget.allowed == allowed
    assert budget.describe() == text


# --- calibration ----------------------------------------------------------------------------------------------------


def by_name(inputs: Any) -> Mapping[str, Array]:
    return {"x": np.asarray(inputs, np.float32)}


def pairs(count: int) -> list[tuple[list[float], int]]:
    return [([float(i)], i) for i in range(count)]


@pytest.mark.parametrize("item", [[1.0], (1.0, 2, 3), 1.0, "xy", {"x": 1.0, "y": 2}])
def test_an_item_that_is_no_pair_is_named(item: object) -> None:
    with pytest.raises(tamago.TamagoError) as error:
        read_samples([*pairs(5), item], by_name)

    assert error.value.code == "U044"
    assert error.value.where == "item 5"


@pytest.mark.parametrize("count", [0, 1, SMALLEST - 1])
def test_too_few_samples(count: int) -> None:
    with pytest.raises(tamago.TamagoError) as error:
        read_samples(pairs(count), by_name)

    assert error.value.code == "U045"
    assert str(count) in error.value.what


def test_an_iterator_that_was_read_before_is_said_to_be_empty() -> None:
    spent = iter(pairs(8))
    assert len(read_samples(spent, by_name)) == 8

    with pytest.raises(tamago.TamagoError, match="iterator"):
        read_samples(spent, by_name)
    with pytest.raises(tamago.TamagoError) as error:
        read_samples([], by_name)
    assert not error.value.why


@pytest.mark.parametrize("different", [1, SMALLEST - 1])
def test_one_batch_over_and_over_is_no_calibration(different: int) -> None:
    with pytest.raises(tamago.TamagoError) as error:
        without_repeats(read_samples([([float(i % different)], i) for i in range(64)], by_name))

    assert error.value.code == "U045"
    assert f"{different} are different" in error.value.what
    assert len(without_repeats(read_samples([([float(i % SMALLEST)], i) for i in range(64)], by_name))) == 64


def test_a_buffer_that_is_filled_again_is_copied() -> None:
    buffer, label = np.zeros((1, 2), np.float32), torch.zeros(1)

    def given() -> Any:
        for i in range(8):
            buffer[:], label[:] = i, i
            yield buffer, {"label": label}

    samples = read_samples(given(), lambda inputs: {"x": inputs})

    assert [float(s.feeds["x"][0, 0]) for s in samples] == list(range(8))
    assert [float(s.target["label"]) for s in samples] == list(range(8))


def test_what_the_owner_keeps_is_not_copied() -> None:
    kept = [(np.full((1, 2), i, np.float32), i) for i in range(8)]

    samples = read_samples(kept, lambda inputs: {"x": inputs})

    assert all(s.feeds["x"] is x for s, (x, _) in zip(samples, kept, strict=True))


def test_of_samples_that_are_all_repeated_one_of_each_is_used() -> None:
    samples = read_samples(pairs(6) * 3, by_name)

    assert [s.number for s in without_repeats(samples)] == [0, 1, 2, 3, 4, 5]


def test_samples_that_happen_to_be_equal_count() -> None:
    for given in ([*pairs(6), *pairs(5)], [([float(i % 4)], i) for i in range(16)], pairs(6)):
        assert len(without_repeats(read_samples(given, by_name))) == len(given)


def test_calibration_is_read_once_and_in_order() -> None:
    reads = 0

    def given() -> Any:
        nonlocal reads
        for item in pairs(SMALLEST):
            reads += 1
            yield list(item)

    samples = read_samples(given(), by_name)

    assert reads == SMALLEST
    assert [s.target for s in samples] == list(range(SMALLEST))
    np.testing.assert_array_equal(samples[3].feeds["x"], [3.0])


class Stream:
    """Samples for ever, and how many were asked for."""

    def __init__(self, error: type[Exception] = TypeError) -> None:
        self.asked, self.error = 0, error

    def __iter__(self) -> Iterator[Any]:
        for self.asked in count(1):
            yield [float(self.asked)], None

    def __len__(self) -> int:
        raise self.error("a stream has no length")


def request(calibration: Any, flatten: Any = by_name) -> Request:
    return Request(Budget(), calibration, [], flatten, lambda outputs: outputs)


def test_a_stream_without_an_end_is_read_up_to_a_number_and_it_is_said() -> None:
    stream = Stream()

    for endless in (stream, Stream(NotImplementedError), iter(Stream()), map(tuple, Stream())):
        asked = request(endless)
        assert len(asked.samples) == MOST
        assert "no length" in asked.notes[0]
        assert str(MOST) in asked.notes[0]
    assert stream.asked == MOST


def test_a_stream_of_large_samples_is_read_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrations, "MOST_BYTES", 1000)

    asked = request(Stream(), lambda inputs: {"x": np.full(25, inputs[0], np.float32)})

    assert len(asked.samples) == 10
    assert "10 samples" in asked.notes[0]


def test_targets_count_however_they_are_nested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrations, "MOST_BYTES", 1000)
    teacher = {"logits": [torch.zeros(20), np.zeros(5, np.float32)]}  # 100 bytes, beside 4

    samples = read_samples((([1.0], teacher) for _ in range(64)), by_name)

    assert len(samples) == 10


@pytest.mark.parametrize("given", [pairs(MOST + 5), iter(pairs(MOST + 5)), (p for p in pairs(20))])
def test_what_has_a_length_or_an_end_is_read_to_it(given: Any) -> None:
    asked = request(given)

    assert len(asked.samples) in (MOST + 5, 20)
    assert asked.notes == []


def test_a_calibration_that_fails_names_the_item() -> None:
    def given() -> Any:
        yield from pairs(5)
        raise KeyError("lost")

    with pytest.raises(tamago.TamagoError) as error:
        read_samples(given(), by_name)

    assert error.value.code == "U044"
    assert error.value.where == "item 5"
    assert "lost" in error.value.why


def test_a_target_may_be_none() -> None:
    assert all(s.target is None for s in read_samples([([1.0], None)] * 4, by_name))


def parts(count: int, *, metric: bool = False, seed: int = 0) -> Split:
    return split(read_samples(pairs(count), by_name), metric=metric, seed=seed)


@pytest.mark.parametrize("metric", [False, True])
@pytest.mark.parametrize("count", [4, 5, 6, 33, 200])
def test_each_sample_chooses_or_proves(count: int, metric: bool) -> None:
    found = parts(count, metric=metric)

    chosen, proved = {s.target for s in found.choose}, {s.target for s in found.verify}
    assert not chosen & proved
    assert chosen | proved == set(range(count))
    assert len(found.choose) + len(found.verify) == count
    assert len(found.choose) >= 2
    assert len(found.verify) >= 2


def test_half_choose_and_with_a_metric_a_quarter() -> None:
    assert [len(parts(n).choose) for n in (4, 5, 64, 65)] == [2, 3, 32, 33]
    assert [len(parts(n, metric=True).choose) for n in (4, 64, 200)] == [2, 16, 50]


def test_the_split_says_which_samples_chose() -> None:
    found = parts(50)

    assert tuple(s.target for s in found.choose) == found.chosen
    assert found.chosen == tuple(sorted(found.chosen))


def test_the_same_samples_are_split_the_same_way() -> None:
    assert parts(50).chosen == parts(50).chosen
    assert parts(50, seed=1).chosen != parts(50).chosen


def test_the_split_is_no_pattern_of_the_order() -> None:
    chosen = set(parts(200).chosen)

    assert 30 < sum(i < 100 for i in chosen) < 70
    assert 30 < sum(i % 2 == 0 for i in chosen) < 70


# --- samples together -----------------------------------------------------------------------------------------------


def sample(count: int, *shape: int, target: Any = None) -> Sample:
    x = np.random.default_rng([count, *shape]).standard_normal((count, *shape)).astype(np.float32)
    return Sample({"x": x, "scale": np.full((count, 1), 2, np.float32)}, target)


def sizes(groups: Sequence[Sequence[Sample]]) -> list[list[int]]:
    return [[examples(s) for s in group] for group in groups]


def test_neighbours_are_run_together_up_to_the_batch() -> None:
    samples = [sample(1, 3) for _ in range(7)]

    groups = together(samples, 3)

    assert sizes(groups) == [[1, 1, 1], [1, 1, 1], [1]]
    assert [s for group in groups for s in group] == samples


def test_a_sample_of_many_examples_counts_as_many() -> None:
    assert sizes(together([sample(2, 3), sample(2, 3), sample(1, 3), sample(6, 3), sample(1, 3)], 4)) == [
        [2, 2],
        [1],
        [6],
        [1],
    ]


def test_other_shapes_are_run_apart() -> None:
    assert sizes(together([sample(1, 3), sample(1, 4), sample(1, 4), sample(1, 3)], 8)) == [[1], [1, 1], [1]]


def test_a_batch_of_one_leaves_all_apart() -> None:
    assert sizes(together([sample(1, 3)] * 3, 1)) == [[1], [1], [1]]


def test_nothing_together_is_nothing() -> None:
    assert together([], 8) == []


def test_numbers_without_a_size_are_one_example() -> None:
    assert examples(Sample({"x": np.asarray(1, np.float32)}, None)) == 1
    assert examples(Sample({}, None)) == 1


def test_a_stack_holds_all_inputs_and_targets_in_order() -> None:
    group = [sample(1, 3, target=np.asarray([4])), sample(2, 3, target=np.asarray([5, 6]))]

    found = stacked(group)

    assert found is not None
    np.testing.assert_array_equal(found.feeds["x"], np.concatenate([s.feeds["x"] for s in group]))
    assert found.feeds["scale"].shape == (3, 1)
    np.testing.assert_array_equal(found.target, [4, 5, 6])


def test_a_stack_of_one_is_itself_and_no_targets_stay_none() -> None:
    alone = sample(2, 3, target="anything")

    assert stacked([alone]) is alone
    found = stacked([sample(1, 3), sample(1, 3)])
    assert found is not None
    assert found.target is None


def test_outputs_of_a_stack_go_back_to_their_samples() -> None:
    runs = 0

    def program(feeds: Mapping[str, Array]) -> list[Array]:
        nonlocal runs
        runs += 1
        return [np.multiply(feeds["x"], feeds["scale"]), np.asarray(feeds["x"]).sum(1)]

    group = [sample(1, 3), sample(3, 3), sample(2, 3)]

    (found,) = run_together(program, [group])

    assert runs == 1
    for s, outputs in zip(group, found, strict=True):
        np.testing.assert_array_equal(outputs[0], np.multiply(s.feeds["x"], 2))
        np.testing.assert_array_equal(outputs[1], np.asarray(s.feeds["x"]).sum(1))
    (((*outputs,),),) = run_together(program, [group[:1]])
    assert len(outputs) == 2


def graph(inputs: str, outputs: str, body: str) -> ir.Graph:
    return ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : 23]> g ({inputs}) => ({outputs}) {{ {body} }}'
    ).graph


@pytest.mark.parametrize(
    ("inputs", "outputs", "body", "free"),
    [
        ("float[N, 8] x", "float[N, 8] y", "y = Relu (x)", True),
        ("float[N, 8] x, float[N] w", "float[N, 8] y, float[N] z", "y = Relu (x) z = Relu (w)", True),
        ("float[2, 8] x", "float[2, 8] y", "y = Relu (x)", False),
        ("float[N, 8] x, float[M, 8] w", "float[N, 8] y, float[M, 8] z", "y = Relu (x) z = Relu (w)", False),
        ("float[N, 8] x, float[1] w", "float[N, 8] y", "y = Add (x, w)", False),
        ("float[N, 8] x, float w", "float[N, 8] y", "y = Add (x, w)", False),
        ("float[N, 8] x", "float y", "y = ReduceSum <keepdims = 0> (x)", False),
        ("float[N, 8] x", "float[8, N] y", "y = Transpose (x)", False),
    ],
)
def test_batches_are_taken_where_every_first_size_is_the_same_free_one(
    inputs: str, outputs: str, body: str, free: bool
) -> None:
    assert takes_batches(graph(inputs, outputs, body)) is free


def test_a_size_without_a_name_is_no_batch() -> None:
    unnamed = graph("float[N, 8] x", "float[N, 8] y", "y = Relu (x)")
    unnamed.outputs[0].shape = ir.Shape([None, 8])

    assert not takes_batches(unnamed)


def test_an_input_with_a_default_does_not_count() -> None:
    text = """<ir_version: 10, opset_import: ["" : 23]>
        g (float[N, 2] x, float[2] w = {1, 2}) => (float[N, 2] y) { y = Mul (x, w) }"""

    assert takes_batches(ir.from_onnx_text(text).graph)
