"""A model whose weights are not held in memory: run piece by piece, each loaded when its turn comes and let go after.

What a piece computes is what the whole computes: the same operators with the same kernels, weights laid out anew and
all. Inputs that are known together go through a piece together, so that each weight is read once for all of them. How
long the whole takes is the sum over its pieces, of which those that are alike are timed once: see `time_by_pieces`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import onnx_ir as ir

from ...compiler.deadline import stop_if_late
from ...compiler.errors import TamagoError
from ...compiler.facts import Array
from ...compiler.ir import weight_bytes
from ...compiler.memory import available_for, give_back
from ...compiler.pieces import Piece, cut, distinct, last_readers
from ...compiler.streaming import fit_together
from ...compiler.timing import Clock, Timing, interleave
from .run import Program

LARGEST_PIECE = 1 << 28  # bytes of weights; three programs have one each when they are timed together
TURNS = 3  # in which pieces are timed that are not held together
KEPT = 4  # inputs of which it is remembered what reaches each kind of piece

Feeds = Mapping[str, Array]
Load = Callable[[ir.Model], Program]


class Streamed:
    """A model that is run piece by piece.

    Args:
        model: what to run.
        load: a piece as a program.
        largest: bytes of weights in a piece.
    """

    def __init__(self, model: ir.Model, load: Load, largest: int | None = None) -> None:
        self.model, self.load = model, load
        self.pieces = cut(model, LARGEST_PIECE if largest is None else largest)
        graph = model.graph
        self.inputs = [v.name or "" for v in graph.inputs if v.const_value is None]
        self.outputs = [v.name or "" for v in graph.outputs]
        self.kinds = distinct(self.pieces)
        self._gone = last_readers(self.pieces, self.outputs)
        fixed = {*graph.outputs, *graph.inputs}
        self._fixed = {v.name or "": v.const_value.numpy() for v in fixed if v.const_value is not None}
        self._reached: dict[int, tuple[Feeds, dict[bytes, Feeds]]] = {}
        most = max((piece.bytes for piece in self.pieces), default=0)
        self.note = (
            f"{weight_bytes(model) / 1e9:.1f} GB of weights are not held in memory: the model was run and timed in "
            f"{len(self.pieces)} pieces of at most {most / 1e9:.2f} GB, those that are alike once"
        )

    def __call__(self, feeds: Feeds) -> list[Any]:
        """Outputs in the graph's order; see `each`."""
        return next(self.each([feeds]))

    def each(self, many: Sequence[Feeds]) -> Iterator[list[Any]]:
        """The outputs for each of several inputs.

        Raises:
            TamagoError: B001, the runtime does not load a piece; B002, it refuses these inputs or fails on them;
                B003, there is no room for a piece.
            OutOfTime: the time is over, before all pieces had their turn.
        """
        known: list[dict[str, Any]] = [{**self._fixed, **feeds} for feeds in many]
        reached: dict[bytes, Feeds] = {}
        give_back()  # what was freed before this
        *earlier, (last, _) = zip(self.pieces, self._gone, strict=True)
        for piece, gone in earlier:
            stop_if_late()
            program = self.loaded(piece)
            reached.setdefault(piece.identity, program.known(known[0]))
            for values in known:
                self._step(program, values, gone)
            del program  # before the next piece is loaded
            piece.let_go()
            give_back()
        stop_if_late()
        program = self.loaded(last)
        reached.setdefault(last.identity, program.known(known[0]))
        self._remember(many[0], reached)
        while known:  # outputs may be large: those of one input at a time
            values = known.pop(0)
            values.update(zip(program.outputs, program(values), strict=True))
            yield [values[name] for name in self.outputs]
        del program
        last.let_go()
        give_back()

    def loaded(self, piece: Piece) -> Program:
        """A piece in memory; raises as `each` does."""
        require_room(piece.bytes)
        return self.load(piece.model())

    def reached(self, feeds: Feeds) -> dict[bytes, Feeds]:
        """What the first piece of each kind reads when the model is given these inputs; raises as `each` does.

        Layers that are alike are one kind: what comes after the last kind's first piece need not be run.
        """
        if id(feeds) not in self._reached:
            self._remember(feeds, self._up_to_the_last_kind(feeds))
        return self._reached[id(feeds)][1]

    def _up_to_the_last_kind(self, feeds: Feeds) -> dict[bytes, Feeds]:
        values: dict[str, Any] = {**self._fixed, **feeds}
        reached: dict[bytes, Feeds] = {}
        for piece, gone in zip(self.pieces, self._gone, strict=True):
            stop_if_late()
            program = self.loaded(piece)
            reached.setdefault(piece.identity, program.known(values))
            if len(reached) == len(self.kinds):
                break
            self._step(program, values, gone)
            del program  # before the next piece is loaded
            piece.let_go()
            give_back()
        return reached

    @staticmethod
    def _step(program: Program, values: dict[str, Any], gone: set[str]) -> None:
        values.update(zip(program.outputs, program(values), strict=True))
        for name in gone:
            values.pop(name, None)

    def _remember(self, feeds: Feeds, reached: dict[bytes, Feeds]) -> None:
        if len(self._reached) >= KEPT:
            del self._reached[next(iter(self._reached))]
        self._reached[id(feeds)] = feeds, reached

    def whole(self) -> Whole:
        """The model as its user runs it."""
        return Whole(self.model, self.load, self.note)


class Whole:
    """A large model held in memory from its first run on: who only saves it need not have the room."""

    def __init__(self, model: ir.Model, load: Load, note: str = "") -> None:
        self._model, self._load, self.note = model, load, note
        self._program: Program | None = None
        self.inputs = [v.name or "" for v in model.graph.inputs if v.const_value is None]
        self.outputs = [v.name or "" for v in model.graph.outputs]

    def __call__(self, feeds: Feeds) -> list[Any]:
        """Outputs in the graph's order; raises as `loaded` and `Program` do."""
        return self.loaded()(feeds)

    def loaded(self) -> Program:
        """The program in memory.

        Raises:
            TamagoError: B003, there is no room for it; B001, the runtime does not load it.
        """
        if self._program is None:
            require_room(weight_bytes(self._model))
            self._program = self._load(self._model)
        return self._program


def require_room(needed: int) -> None:
    """Say that weights of so many bytes do not fit before the operating system ends the process for it.

    Raises:
        TamagoError: B003.
    """
    there = available_for(needed)
    if there is None or needed <= there:
        return
    raise TamagoError(
        "B003",
        "the model does not fit in memory",
        why=f"weights that are needed at once take {needed / 1e9:.1f} GB, and {there / 1e9:.1f} GB are free",
        todo="free some memory; or save the program and run it on a machine with more, or compile it within a budget: "
        "weights of 4 bits take an eighth",
    )


Part = tuple[Callable[[], Callable[[], object]], int, int]  # loads one call; how many there are of it; bytes


def time_by_pieces(
    runs: Sequence[tuple[Program | Streamed, Feeds]], rounds: int, seconds: float, clock: Clock
) -> list[Timing]:
    """Interleaved timings of whole programs, as sums over their pieces.

    The first kinds of piece of all programs are timed side by side, then the second kinds, and so on. A round's sample
    is the sum over a program's kinds of that round's milliseconds, each as often as there are pieces of the kind.

    Args:
        runs: programs and their inputs; one that is held in memory is a single piece.
        rounds: samples of each.
        seconds: for all of them, loading not counted.
        clock: what a call takes is read from it.

    Raises:
        OutOfTime: the time is over, before all were timed.
    """
    rows = list(zip_longest(*(_parts(program, feeds) for program, feeds in runs)))
    samples: list[list[Array]] = [[] for _ in runs]
    for row in rows:
        stop_if_late()
        there = [i for i, part in enumerate(row) if part is not None]
        timings = _time_parts([row[i] for i in there], rounds, seconds / max(len(rows), 1), clock)
        for i, timing in zip(there, timings, strict=True):
            samples[i].append(np.asarray(timing.samples) * row[i][1])
    fewest = min(len(s) for each in samples for s in each)
    return [Timing(tuple(np.sum([s[:fewest] for s in each], axis=0).tolist())) for each in samples]


def _parts(program: Program | Streamed, feeds: Feeds) -> list[Part]:
    if not isinstance(program, Streamed):
        return [(lambda: lambda: program(feeds), 1, 0)]
    reached = program.reached(feeds)

    def part(piece: Piece, count: int) -> Part:
        given = reached[piece.identity]

        def load() -> Callable[[], object]:
            loaded = program.loaded(piece)
            return lambda: loaded(given)

        return load, count, piece.bytes

    return [part(*kind) for kind in program.kinds]


def _time_parts(parts: Sequence[Part], rounds: int, seconds: float, clock: Clock) -> list[Timing]:
    if fit_together(size for _, _, size in parts):
        return interleave([load() for load, _, _ in parts], rounds=rounds, seconds=seconds, clock=clock)
    samples: list[list[float]] = [[] for _ in parts]
    each, share = max(rounds // TURNS, 3), seconds / TURNS / len(parts)
    for turn in range(TURNS):
        order = range(len(parts)) if turn % 2 == 0 else reversed(range(len(parts)))
        for i in order:
            (timing,) = interleave([parts[i][0]()], rounds=each, seconds=share, clock=clock)
            samples[i] += timing.samples
    fewest = min(map(len, samples))
    return [Timing(tuple(s[:fewest])) for s in samples]
