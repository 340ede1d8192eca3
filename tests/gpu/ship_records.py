"""Records for the package out of a store: `python -m tests.gpu.ship_records store.sqlite records/device.json`.

Of each kernel and shape the fastest candidates, and torch's own operators where they took part; they join the records
that are there, and take the place of those for the same job.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tamago.backends.triton.records import key
from tamago.compiler.store import Store

FASTEST = 3
DIGITS = 5


def main() -> None:
    """Read, choose, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("records", type=Path)
    options = parser.parse_args()
    there = json.loads(options.records.read_text(encoding="utf-8")) if options.records.exists() else []
    every = {key(r["job"], r["environment"]): r for r in (*there, *map(_fewer, tuned(options.store)))}
    chosen = [json.dumps(every[place], sort_keys=True) for place in sorted(every)]
    options.records.write_text("[\n" + ",\n".join(chosen) + "\n]\n", encoding="utf-8")
    print(f"{len(chosen)} records")


def tuned(store: Path) -> Iterator[Mapping[str, Any]]:
    """What a store's verdicts say of kernels."""
    with tempfile.TemporaryDirectory() as folder, Store.open(store) as opened:
        path = Path(folder) / "export.json"
        opened.export(path)
        content = json.loads(path.read_text(encoding="utf-8"))
    for row in content["verdicts"].values():
        value = row.get("value", row)
        value = json.loads(value) if isinstance(value, str) else value
        if isinstance(value, dict) and "job" in value:
            yield value


def _fewer(record: Mapping[str, Any]) -> dict[str, Any]:
    timings = sorted(record["timings"], key=lambda t: t["milliseconds"])
    kept = timings[:FASTEST] + [t for t in timings[FASTEST:] if t["candidate"][0] == 0]
    rounded = [{k: _rounded(v) for k, v in t.items()} for t in kept]
    return {**record, "failed": [], "timings": rounded}


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
