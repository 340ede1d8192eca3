"""A model that is not held in memory: run, verified, timed and compiled piece by piece, with the same results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import tamago
from tamago.backends.onnxruntime import streamed
from tamago.backends.onnxruntime.run import Program
from tamago.backends.onnxruntime.streamed import Streamed, Whole, time_by_pieces
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.compiler import memory, streaming
from tamago.compiler.approximate import tables
from tamago.compiler.approximate.calibration import Sample
from tamago.compiler.approximate.costs import Run
from tamago.compiler.approximate.judge import Judge
from tamago.compiler.approximate.search import Search
from tamago.compiler.approximate.stack import together
from tamago.compiler.compiled import CompiledModel
from tamago.compiler.deadline import OutOfTime, stopping_at
from tamago.compiler.decide import decide
from tamago.compiler.errors import TamagoError
from tamago.compiler.facts import Array
from tamago.compiler.files import read_model
from tamago.compiler.options import Options
from tamago.compiler.pieces import cut, distinct
from tamago.compiler.serialization import from_proto
from tamago.compiler.timing import Clock, Timing, clock_for

WIDTH, WIDE, LAYERS = 64, 192, 6
TARGET = OnnxRuntime(1)
LAYER = 4 * 2 * WIDTH * WIDE  # bytes


def proto(*, activation: str = "Relu", scaled: bool = False) -> onnx.ModelProto:
    """A residual stream of layers; their products may be scaled by a factor that goes into the weights."""
    generator = np.random.default_rng(0)
    weights: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, *shape: int, size: float = 1.0) -> str:
        array = (generator.standard_normal(shape) * size).astype(np.float32)
        weights.append(numpy_helper.from_array(array, name))
        return name

    value = "x"
    for i in range(LAYERS):
        after = f"x{i + 1}" if i < LAYERS - 1 else "y"
        norm = [constant(f"g{i}", WIDTH, size=0.3), constant(f"b{i}", WIDTH, size=0.1)]
        up, down = constant(f"up{i}", WIDTH, WIDE, size=0.1), constant(f"down{i}", WIDE, WIDTH, size=0.1)
        product = f"s{i}" if scaled else f"d{i}"
        nodes += [
            helper.make_node("LayerNormalization", [value, *norm], [f"n{i}"]),
            helper.make_node("MatMul", [f"n{i}", up], [f"u{i}"]),
            helper.make_node(activation, [f"u{i}"], [f"r{i}"]),
            helper.make_node("MatMul", [f"r{i}", down], [product]),
            *([helper.make_node("Mul", [f"s{i}", constant(f"c{i}", WIDTH)], [f"d{i}"])] if scaled else []),
            helper.make_node("Add", [value, f"d{i}"], [after]),
        ]
        value = after
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", WIDTH]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def inputs(seed: int = 0, rows: int = 5) -> dict[str, Array]:
    return {"x": np.random.default_rng(seed).standard_normal((rows, WIDTH)).astype(np.float32)}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of this test are large."""
    monkeypatch.setattr(memory, "SMALLEST_ASKED", 0)
    monkeypatch.setattr(memory, "available", lambda: streaming.SHARE * LAYER)
    monkeypatch.setattr(streamed, "LARGEST_PIECE", 2 * LAYER - 1)


def test_what_lies_in_files_is_streamed_and_what_is_in_memory_held_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(streaming, "LARGEST_HELD", LAYER)
    monkeypatch.setattr(memory, "SMALLEST_ASKED", 0)
    path = tmp_path / "model.onnx"
    onnx.save(proto(), path, save_as_external_data=True, size_threshold=0)

    assert streaming.is_too_large(read_model(path))
    assert not streaming.is_too_large(from_proto(proto()))

    monkeypatch.setattr(memory, "available", lambda: LAYER)
    assert streaming.is_too_large(from_proto(proto()))


def test_layers_are_cut_alike() -> None:
    pieces = cut(from_proto(proto()), LAYER + 4096)

    assert len(pieces) == LAYERS
    assert [count for _, count in distinct(pieces)] == [LAYERS]
    assert [p.model().graph.inputs[0].name for p in pieces] == ["x", *(f"x{i}" for i in range(1, LAYERS))]


def test_what_fits_is_one_piece_and_what_does_not_is_as_small_as_nodes_are() -> None:
    model = from_proto(proto())

    assert len(cut(model, 1 << 30)) == 1
    assert max(p.bytes for p in cut(model, 1)) <= LAYER


def test_nothing_is_cut_where_a_value_of_unknown_type_passes() -> None:
    given = proto()
    for number, node in enumerate(given.graph.node):
        if node.op_type == "Relu":
            node.op_type, node.domain, node.name = "Mystery", "somebody", f"mystery{number}"
    pieces = cut(from_proto(given), 1)

    assert all(v.type is not None for p in pieces for v in p.makes)
    assert len(pieces) < len(cut(from_proto(proto()), 1))


@pytest.mark.usefixtures("small")
def test_pieces_compute_what_the_whole_does() -> None:
    model = from_proto(proto())
    program = TARGET.lower(model)
    assert isinstance(program, Streamed)
    assert len(program.pieces) == LAYERS
    many = [inputs(seed, 1 + seed) for seed in range(3)]

    found = list(program.each(many))

    plain = Program(model, 1)
    for feeds, outputs in zip(many, found, strict=True):
        np.testing.assert_array_equal(outputs[0], plain(feeds)[0])
    np.testing.assert_array_equal(program(many[1])[0], found[1][0])


@pytest.mark.usefixtures("small")
def test_each_piece_is_loaded_once_for_many_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    model, held, most = from_proto(proto()), 0, 0
    loads = 0

    class Counted(Program):
        def __init__(self, piece: ir.Model) -> None:
            nonlocal held, most, loads
            held, loads = held + 1, loads + 1
            most = max(most, held)
            super().__init__(piece, 1)

        def __del__(self) -> None:
            nonlocal held
            held -= 1

    program = Streamed(model, Counted)

    assert len(list(program.each([inputs(s) for s in range(4)]))) == 4
    assert loads == LAYERS
    assert most == 1


def test_branches_outputs_that_are_inputs_and_overridable_weights_survive() -> None:
    text = """<ir_version: 10, opset_import: ["" : 18]>
    g (float[N, 4] x, bool c, float[4] w) => (float[N, 4] y, float[4] w, float[N, 4] half)
    <float[4] w = {1, 2, 3, 4}, float[4] v = {4, 3, 2, 1}> {
        half = Mul(x, w)
        moved = Add(half, v)
        y = If(c) <
            then_branch = a () => (float[N, 4] a_out) { a_out = Mul(moved, v) },
            else_branch = b () => (float[N, 4] b_out) { b_out = Sub(moved, half) }>
    }"""
    model = from_proto(onnx.parser.parse_model(text))
    program, plain = Streamed(model, lambda piece: Program(piece, 1), largest=1), Program(model, 1)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert len(program.pieces) > 1

    for decided in (True, False):
        feeds: dict[str, Any] = {"x": x, "c": np.asarray(decided)}
        for given in (feeds, {**feeds, "w": np.full(4, 7, np.float32)}):
            for a, b in zip(program(given), plain(given), strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("small")
def test_the_time_of_the_whole_is_the_sum_over_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which those that are alike are timed once, side by side with the other programs'."""
    given, feeds = proto(), inputs()
    program, plain = Streamed(from_proto(given), lambda p: Program(p, 1)), Program(from_proto(given), 1)
    together: list[int] = []

    def timed(runs: Sequence[Callable[[], object]], *, rounds: int, seconds: float, clock: Clock) -> list[Timing]:
        for run in runs:
            run()
        together.append(len(runs))
        return [Timing((1.0, 2.0, 4.0)[:rounds])] * len(runs)

    monkeypatch.setattr(streamed, "interleave", timed)

    a, b = time_by_pieces([(program, feeds), (plain, feeds)], rounds=3, seconds=1.0, clock=clock_for(1))

    assert together == [2]
    assert a.samples == (LAYERS * 1.0, LAYERS * 2.0, LAYERS * 4.0)
    assert b.samples == (1.0, 2.0, 4.0)


@pytest.mark.usefixtures("small")
def test_timing_runs_no_more_pieces_than_it_takes_to_reach_each_kind() -> None:
    loads: list[ir.Model] = []

    def load(piece: ir.Model) -> Program:
        loads.append(piece)
        return Program(piece, 1)

    feeds = inputs()
    program = Streamed(from_proto(proto()), load)
    (reached,) = program.reached(feeds).values()
    assert len(loads) == 1
    np.testing.assert_array_equal(reached["x"], feeds["x"])

    given = proto()
    given.graph.node[-3].op_type = "Sigmoid"  # the last layer is another kind
    other = Streamed(from_proto(given), load)
    first, last = other.reached(feeds).values()
    assert len(loads) == 1 + LAYERS
    assert "x" in first
    assert f"x{LAYERS - 1}" in last


@pytest.mark.usefixtures("small")
def test_pieces_that_are_not_held_together_are_timed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "HELD_TOGETHER", 1)
    program, feeds = TARGET.lower(from_proto(proto())), inputs()

    times, (ratio, low, high) = TARGET.compare([Run(program, feeds)] * 2)

    assert all(t > 0 for t in times)
    assert low <= ratio <= high


def test_blocks_that_are_not_held_together_are_timed_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [from_proto(proto()) for _ in range(3)]
    wrong = from_proto(proto(activation="Sigmoid"))
    monkeypatch.setattr(streaming, "HELD_TOGETHER", 1)

    found = TARGET.time_blocks([*models, wrong], 2.0, inputs(rows=64))

    assert found is not None
    assert all(0 < t < float("inf") for t in found[:3])
    assert found[3] == float("inf")


@pytest.mark.usefixtures("small")
def test_a_compilation_says_how_it_was_judged_and_gives_a_program_that_is_held() -> None:
    given, feeds = proto(scaled=True), inputs()

    compiled = tamago.compile(given, feeds, threads=1, store=":memory:")

    assert "not held in memory" in str(compiled.report)
    assert isinstance(compiled.program, Whole)
    np.testing.assert_allclose(compiled(feeds)[0], Program(from_proto(given), 1)(feeds)[0], rtol=1e-4, atol=1e-4)


def test_small_models_are_held() -> None:
    compiled = tamago.compile(proto(), inputs(), threads=1, store=":memory:")

    assert isinstance(compiled.program, Program)
    assert "not held in memory" not in str(compiled.report)


def within_budget(*, rows: int = 5, **options: Any) -> CompiledModel:
    samples = [((inputs(seed, rows)["x"],), None) for seed in range(24)]
    budget = tamago.Budget(rise=0.05)
    found = tamago.compile(
        *(proto(), inputs()),
        threads=1,
        store=":memory:",
        budget=budget,
        calibration=samples,
        objective="size",
        measure=False,  # prices that are measured differ from run to run, and so do programs
        **options,
    )
    assert isinstance(found, CompiledModel)
    return found


def test_a_budget_is_spent_alike(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    streamed_one = within_budget(methods=["stored_weights"])
    monkeypatch.undo()
    held = within_budget(methods=["stored_weights"])

    a, b = streamed_one.report.approximation, held.report.approximation
    assert a is not None
    assert b is not None
    assert a.proof is not None
    assert b.proof is not None
    assert [(c.place, c.method, c.setting) for c in a.choice] == [(c.place, c.method, c.setting) for c in b.choice]
    assert a.proof.value == pytest.approx(b.proof.value)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("rows", "runs"), [(5, [12]), (1, [12, 3])])
def test_a_proof_runs_samples_together_where_that_is_another_run(
    monkeypatch: pytest.MonkeyPatch, rows: int, runs: list[int]
) -> None:
    """The workload has five rows: samples of five are as many by themselves as together."""
    scores, prove = Judge.scores, Search.prove
    batches: list[int] = []

    def counted(judge: Judge, program: Any, samples: Sequence[Sample], batch: int = 1) -> list[Any]:
        batches.append(len(together(samples, batch)))
        return scores(judge, program, samples, batch)

    def proved(search: Search, *args: Any) -> Any:
        batches.clear()
        return prove(search, *args)

    monkeypatch.setattr(Judge, "scores", counted)
    monkeypatch.setattr(Search, "prove", proved)

    within_budget(methods=["stored_weights"], rows=rows, workloads=[((inputs()["x"],), 1.0)])

    assert batches == runs


@pytest.mark.usefixtures("small")
def test_what_does_not_load_is_not_returned() -> None:
    original, broken = from_proto(proto()), from_proto(proto())
    next(n for n in broken.graph if n.op_type == "Relu").op_type = "Erf2"

    decision = decide(original, broken, inputs(), TARGET, Options(), float("inf"), True)

    assert not decision.won
    assert "does not load" in decision.notes[0]
    with pytest.raises(TamagoError, match="B001"):
        decide(broken, original, inputs(), TARGET, Options(), float("inf"), True)


def test_no_room_is_said_before_anything_is_killed(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(proto(), tmp_path / "m.onnx")
    compiled = tamago.compile(tmp_path / "m.onnx", inputs(), threads=1, store=":memory:")
    monkeypatch.setattr(memory, "available", lambda: 1000)

    compiled.save(tmp_path / "out.onnx")  # which needs no room
    with pytest.raises(TamagoError, match="B003"):
        compiled(inputs())
    with pytest.raises(TamagoError, match="B003"):
        tamago.load(tmp_path / "out.onnx")
    with pytest.raises(TamagoError, match="B003"):
        tamago.compile(tmp_path / "m.onnx", inputs(), threads=1, store=":memory:")
    monkeypatch.undo()
    assert compiled(inputs())[0].shape == (5, WIDTH)


@pytest.mark.usefixtures("small")
def test_a_pass_ends_between_two_pieces_once_the_time_is_over() -> None:
    program = TARGET.lower(from_proto(proto()))
    assert isinstance(program, Streamed)
    loads: list[ir.Model] = []
    program.load = lambda piece: loads.append(piece) or Program(piece, 1)

    with stopping_at(time.perf_counter() - 1), pytest.raises(OutOfTime):
        program(inputs())
    assert not loads

    with stopping_at(time.perf_counter() + 60):
        program(inputs())
    assert len(loads) == LAYERS


@pytest.mark.usefixtures("small")
def test_what_was_not_verified_in_time_is_not_returned() -> None:
    original, other = from_proto(proto()), from_proto(proto())

    late = decide(original, other, inputs(), TARGET, Options(), time.perf_counter() - 1, True)
    in_time = decide(original, other, inputs(), TARGET, Options(measure=False), float("inf"), True)

    assert (late.won, late.verdict, late.verified) == (False, "not verified", False)
    assert "time limit" in late.notes[0]
    assert in_time.won
    assert in_time.verified


@pytest.mark.usefixtures("small")
def test_a_time_limit_that_is_over_at_once_leaves_the_original() -> None:
    found = within_budget(methods=["stored_weights"], time_limit=1e-3)

    account = found.report.approximation
    assert account is not None
    assert account.proof is None
    assert any("the time limit was over" in note for note in account.notes)
    np.testing.assert_array_equal(found(inputs()["x"])[0], Program(from_proto(proto()), 1)(inputs())[0])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("stop", [KeyboardInterrupt, OutOfTime])
@pytest.mark.parametrize(
    ("method", "turn", "said"),
    [
        ("_prepare", 1, "before anything was chosen: the result is exact"),
        ("measure", 2, "the best choice until then was put to proof"),
        ("prove", 1, "before the best choice was proved"),
    ],
)
def test_a_search_that_ends_in_the_middle_of_a_pass_gives_what_was_proved(
    monkeypatch: pytest.MonkeyPatch, stop: type[BaseException], method: str, turn: int, said: str
) -> None:
    """It ends before the next piece once a method of the search has begun for so many times, and only there."""
    left = [float("inf")]
    begun: list[str] = []
    plain = getattr(Search, method)

    def begin(search: Search, *args: Any) -> Any:
        begun.append(method)
        left[0] = 1 if len(begun) == turn else left[0]
        return plain(search, *args)

    def look() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise stop

    monkeypatch.setattr(Search, method, begin)
    monkeypatch.setattr(streamed, "stop_if_late", look)

    found = within_budget(methods=["stored_weights"])

    account = found.report.approximation
    assert account is not None
    assert any(said in note for note in account.notes), account.notes
    assert (account.proof is not None) == (method == "measure")
    assert found(inputs()["x"])[0].shape == (5, WIDTH)


@pytest.mark.parametrize("held", [False, True])
def test_places_of_a_large_model_leave_time_for_choosing(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, held: bool
) -> None:
    """With none of the time for places there is nothing to choose; a model that is held takes the time there is."""
    if not held:
        request.getfixturevalue("small")
    monkeypatch.setattr(tables, "LOOKING", 0.0)

    account = within_budget(methods=["stored_weights"], time_limit=300.0).report.approximation

    assert account is not None
    assert (account.proof is not None) == held
    assert any(reason == tables.NO_TIME for _, _, reason in account.refused) == (not held)
