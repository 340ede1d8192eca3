"""Large arrays in private files: what is put away, what is not, and that nothing is left behind."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tamago.compiler import scratch as module
from tamago.compiler.errors import TamagoError
from tamago.compiler.facts import Constant
from tamago.compiler.ir import new_constant
from tamago.compiler.mapped import is_mapped, let_go
from tamago.compiler.scratch import put_away, scratch


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALLEST", 1024)
    monkeypatch.setattr(module, "SEGMENT", 10_000)


@pytest.mark.parametrize("dtype", [np.float32, np.int8, ml_dtypes.bfloat16, ml_dtypes.uint4])
def test_contents_come_back(dtype: type[np.generic], tmp_path: Path) -> None:
    arrays = [(np.arange(3000 + n).reshape(-1, 2) % 8).astype(dtype) for n in range(0, 20, 2)]
    arrays.append(np.asfortranarray(np.arange(6000).reshape(60, 100) % 8).astype(dtype))

    with scratch(tmp_path / "made"):
        found = [put_away(a) for a in arrays]

    assert all(map(is_mapped, found))
    for array, back in zip(arrays, found, strict=True):
        assert back.dtype == array.dtype
        assert not back.flags.writeable
        np.testing.assert_array_equal(back.astype(np.float32), array.astype(np.float32))


def test_files_have_no_names_and_go_with_their_arrays(tmp_path: Path) -> None:
    def room() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    before = room()
    with scratch(tmp_path):
        found = [put_away(np.ones(5000, np.float32)) for _ in range(8)]
        assert list(tmp_path.iterdir()) == []
        assert room() > before or not before
    del found

    assert room() == before


def test_small_mapped_and_foreign_arrays_stay_as_they_are(tmp_path: Path) -> None:
    small, objects = np.ones(4, np.float32), np.full(5000, "text", object)
    with scratch(tmp_path):
        away = put_away(np.ones(5000, np.float32))

        assert put_away(small) is small
        assert put_away(objects) is objects
        assert put_away(away) is away
        assert put_away(view := away[10:3000]) is view


def test_without_a_folder_everything_stays_in_memory() -> None:
    array = np.ones(5000, np.float32)

    with scratch(None):
        assert put_away(array) is array
    assert put_away(array) is array


def test_new_constants_and_folded_ones_are_put_away_and_weights_are_not(tmp_path: Path) -> None:
    array = np.ones(5000, np.float32)
    folded, owned = Constant([lambda: array]), Constant([lambda: array], ("w",))
    with scratch(tmp_path):
        tensor = new_constant("c", array).const_value

        assert tensor is not None
        assert is_mapped(tensor.numpy())
        assert is_mapped(folded.array(0))
        assert owned.array(0) is array


def pages_of_files() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssFile"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells pages of files from others")
def test_what_is_let_go_is_no_longer_the_process_own_and_reads_the_same(tmp_path: Path) -> None:
    size = 1 << 24
    with scratch(tmp_path):
        kept, gone = put_away(np.arange(size, dtype=np.uint8)), put_away(np.arange(size, dtype=np.uint8))
    total = int(np.sum(kept)) + int(np.sum(gone))
    before = pages_of_files()

    let_go(gone)

    assert pages_of_files() < before - size / 2
    assert int(np.sum(kept)) + int(np.sum(gone)) == total


def test_what_is_no_file_is_not_let_go() -> None:
    array = np.arange(1 << 20)

    let_go(array)

    assert int(array[-1]) == len(array) - 1


def test_no_room_is_said(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    with scratch(blocked), pytest.raises(TamagoError, match="M036"):
        put_away(np.ones(5000, np.float32))
