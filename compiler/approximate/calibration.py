"""Calibration samples: read once, split once, and the split recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from operator import length_hint
from typing import Any

import numpy as np

from ..errors import TamagoError
from ..facts import Array
from ..torch_tensors import to_numpy

SMALLEST = 4  # samples: below, neither part could say anything
MOST, MOST_BYTES = 4096, 2 << 30  # that are read of what does not say how many samples it has: it may have no end


@dataclass(frozen=True)
class Sample:
    """One item of the owner's calibration: inputs by graph name, whatever the loss needs, and which item it was."""

    feeds: Mapping[str, Array]
    target: Any
    number: int | None = None


@dataclass(frozen=True)
class Split:
    """The part to choose on, the part to prove on, and where each sample of the first came from."""

    choose: Sequence[Sample]
    verify: Sequence[Sample]
    chosen: tuple[int, ...]


def read_samples(calibration: Iterable[Any], flatten: Callable[[Any], Mapping[str, Array]]) -> list[Sample]:
    """Samples from `(inputs, target)` pairs: all of them, or the first where there may be no end to them.

    Args:
        calibration: what the owner gave.
        flatten: inputs as the model takes them → arrays by graph input.

    Raises:
        TamagoError: U044, an item is no pair; U045, too few samples; what `flatten` raises, with the item's number.
    """
    samples: list[Sample] = []
    read = 0
    if not hasattr(calibration, "__iter__"):
        raise TamagoError("U044", f"calibration is a {type(calibration).__name__}", todo="pass (inputs, target) pairs")
    endless = not _has_length(calibration)
    for number, item in enumerate(_yielded(calibration)):
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise TamagoError(
                "U044",
                "calibration must yield (inputs, target)",
                where=f"item {number}",
                todo="target may be None where the loss needs none",
            )
        try:
            samples.append(_own(Sample(flatten(item[0]), item[1], number), kept=isinstance(calibration, Sequence)))
        except TamagoError as error:
            where = f"item {number}" + (f", {error.where}" if error.where else "")
            raise TamagoError(error.code, error.what, where=where, why=error.why, todo=error.todo) from error
        read += _size(samples[-1])
        if endless and _is_enough(len(samples), read):
            break
    if len(samples) < SMALLEST:
        spent = not samples and isinstance(calibration, Iterator)
        raise TamagoError(
            "U045",
            f"calibration has {len(samples)} samples",
            why="nothing is left in an iterator that was read before" if spent else "",
            todo=f"give at least {SMALLEST}, better 32 or more: half choose, half prove",
        )
    return samples


def left_unread(calibration: Iterable[Any], samples: Sequence[Sample]) -> str:
    """What the report should say where reading ended before the samples did; empty where it did not."""
    if _has_length(calibration) or not _is_enough(len(samples), sum(map(_size, samples))):
        return ""
    return f"calibration has no length: its first {len(samples)} samples were read (a list is read to its end)"


def _has_length(calibration: Iterable[Any]) -> bool:
    """Whether it says how many samples it has: a stream does not."""
    try:
        return length_hint(calibration, -1) >= 0
    except Exception:  # the owner's code: some raise NotImplementedError
        return False


def _is_enough(count: int, size: int) -> bool:
    return count >= MOST or size >= MOST_BYTES


def _size(sample: Sample) -> int:
    return _bytes((sample.feeds, sample.target))


def _bytes(value: Any) -> int:
    """Of the arrays in feeds or a target, however they are nested."""
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_bytes, value))
    return int(getattr(value, "nbytes", 0))


def without_repeats(samples: Sequence[Sample]) -> list[Sample]:
    """One of each where every sample is there more than once: a list that was lengthened proves no more than it did.

    Where some are there once, equal ones may have been drawn at random from few that are possible: they count.

    Raises:
        TamagoError: U045, too few inputs are different.
    """
    different = len({_digest(s.feeds) for s in samples})
    if different < SMALLEST:
        raise TamagoError(
            "U045",
            f"calibration has {len(samples)} samples, of whose inputs {different} are different",
            why="what is measured twice on one input proves nothing of others",
            todo="draw anew each time: next(iter(loader)) starts over, and one buffer holds its last contents",
        )
    digests = [_digest({**s.feeds, "": s.target}) for s in samples]
    if min(Counter(digests).values(), default=1) < 2:
        return list(samples)
    return list(dict(zip(reversed(digests), reversed(samples), strict=True)).values())[::-1]


@contextmanager
def blamed_on(sample: Sample) -> Generator[None]:
    """Give what the owner's function raises the item that it was called with."""
    try:
        yield
    except TamagoError as error:
        if error.where or sample.number is None:
            raise
        where = f"calibration item {sample.number}"
        raise TamagoError(error.code, error.what, where=where, why=error.why, todo=error.todo) from error


def _own(sample: Sample, *, kept: bool) -> Sample:
    """The sample with contents of its own unless the owner keeps it: a loader may fill one buffer again and again."""
    if kept:
        return sample
    from torch.utils import _pytree as pytree

    feeds = {name: np.array(array) for name, array in sample.feeds.items()}
    return Sample(feeds, pytree.tree_map(_copy, sample.target), sample.number)


def _copy(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    return value.detach().clone() if hasattr(value, "detach") else value


def _digest(value: Any) -> bytes:
    """The same for equal contents."""
    from torch.utils import _pytree as pytree

    leaves, spec = pytree.tree_flatten(value)
    digest = blake2b(repr(spec).encode())
    for leaf in leaves:
        array = to_numpy(leaf) if hasattr(leaf, "detach") else leaf
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            digest.update(repr(array).encode())
            continue
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()


def _yielded(calibration: Iterable[Any]) -> Iterator[Any]:
    """The items, one after the other; the owner's code behind them may fail in any way."""
    number = 0
    try:
        for item in calibration:
            yield item
            number += 1
    except TamagoError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise TamagoError("U044", "the calibration failed", where=f"item {number}", why=why) from error


def split(samples: Sequence[Sample], *, metric: bool = False, seed: int = 0) -> Split:
    """Half to choose on, half to prove on, drawn at random with a fixed seed.

    With a metric a quarter chooses: gradients predict from few samples, but right or wrong takes many to prove.
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    count = max((len(samples) + 1) // (4 if metric else 2), SMALLEST // 2)
    chosen = tuple(sorted(int(i) for i in order[:count]))
    rest = sorted(int(i) for i in order[count:])
    return Split([samples[i] for i in chosen], [samples[i] for i in rest], chosen)
