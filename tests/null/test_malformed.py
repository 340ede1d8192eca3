"""A malformed file is read, or refused with a code; never another exception, never for long."""

import time
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tamago.compiler.errors import TamagoError
from tamago.compiler.files import read_model, write_model
from tests.null.malformed import bases, corpus, structural

SECONDS = 10.0


def fate(data: bytes, folder: Path) -> str:
    """The code of the refusal, or "accepted" for a file that could be read, written and read again."""
    path = folder / "model.onnx"
    path.write_bytes(data)
    try:
        model = read_model(path)
    except TamagoError as error:
        return _checked(error)
    write_model(model, folder / "again.onnx")
    read_model(folder / "again.onnx")
    return "accepted"


def _checked(error: TamagoError) -> str:
    text = str(error)
    assert error.code
    assert error.what
    assert error.todo, f"{text} does not say what to do"
    assert text.replace("\n", "").isprintable(), "a name from the file reaches the terminal as it is"
    assert len(text) < 2000
    return error.code


def test_every_mutant_is_read_or_refused_with_a_code(tmp_path: Path) -> None:
    fates = Counter[str]()
    for name, data in corpus(seed=0):
        start = time.perf_counter()
        try:
            fates[fate(data, tmp_path)] += 1
        except Exception as error:
            error.add_note(f"mutant: {name}")
            raise
        assert time.perf_counter() - start < SECONDS, name
    assert fates.total() >= 250
    assert len(fates) >= 12, fates


def test_the_bases_are_valid(tmp_path: Path) -> None:
    for model in bases().values():
        assert fate(model.SerializeToString(), tmp_path) == "accepted"


def test_the_corpus_is_the_same_every_time() -> None:
    assert [data for _, data in corpus(seed=3)] == [data for _, data in corpus(seed=3)]


EXPECTED = {
    "mlp no graph": "M010",
    "mlp no opset": "M011",
    "mlp no IR version": "M011",
    "mlp newer IR version": "M012",
    "mlp newer opset": "accepted",
    "mlp two opsets": "accepted",
    "mlp input twice": "M013",
    "mlp output twice": "accepted",
    "mlp node twice": "M013",
    "mlp initializer twice": "accepted",
    "mlp constant twice": "accepted",
    "mlp nodes backwards": "accepted",
    "mlp cycle": "M016",
    "mlp node reads itself": "M016",
    "mlp undefined input": "M014",
    "mlp undefined output": "M015",
    "mlp weight called as a node's output": "M013",
    "mlp unknown operator": "accepted",
    "mlp unknown domain": "accepted",
    "mlp input without a type": "M019",
    "mlp output without a type": "accepted",
    "mlp input of an unknown type": "M018",
    "mlp negative dimension of an input": "accepted",
    "mlp raw data too short": "M017",
    "mlp raw data too long": "M017",
    "mlp typed data too short": "M017",
    "mlp typed data in the wrong field": "M017",
    "mlp raw and typed data": "accepted",
    "mlp negative dimension": "M017",
    "mlp dimension of 2^63 - 1": "M017",
    "mlp dimensions that overflow to 0": "M017",
    "mlp unknown data type": "M018",
    "mlp strings as raw data": "M017",
    "mlp six bits with padding": "M017",
    "mlp attribute twice": "M019",
    "mlp attribute without a type": "accepted",
    "mlp attribute without anything": "M019",
    "mlp huge attribute": "accepted",
    "mlp strings that are not UTF-8": "accepted",
    "mlp external: climbs": "M021",
    "mlp external: absolute": "M021",
    "mlp external: NUL": "M021",
    "mlp external: negative offset": "M023",
    "mlp external: other digits": "M023",
    "mlp external: wrong length": "M024",
    "mlp external: odd keys": "M020",
    "branches body reads nothing": "M014",
    "branches body reads its own node": "M016",
    "branches body returns a value of the graph around": "M015",
    "branches body makes a value twice": "M013",
    "branches body with a bad weight": "M017",
    "branches body with a value of the same name as around": "accepted",
    "rich function twice": "M013",
    "rich function reads nothing": "M014",
    "rich function out of order": "accepted",
    "rich sparse index beyond the end": "M017",
    "rich sparse of huge size": "M017",
    "rich sequence of an unknown type": "M018",
    "rich too few words": "M017",
}


@cache
def mutants() -> dict[str, bytes]:
    return dict(structural())


@pytest.mark.parametrize("name", EXPECTED)
def test_the_code_names_the_fault(name: str, tmp_path: Path) -> None:
    assert fate(mutants()[name], tmp_path) == EXPECTED[name]
