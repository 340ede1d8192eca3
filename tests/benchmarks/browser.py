"""Our bundles beside onnxruntime-web's WebGPU provider, in one page of one browser on one adapter.

`python -m tests.benchmarks.browser --pair model.onnx site/ [--pair …] [--json FILE]`: first run (from nothing to the
first answer, downloads from this machine included), steady median of runs that take turns, dispatches of one run,
bytes that were fetched, and how far both are from ONNX Runtime on the CPU. Needs Chromium, node and npm.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import onnxruntime

from tamago.compiler.files import read_model
from tamago.compiler.verify import make_feeds
from tests.browser.chromium import WEBGPU, Chromium
from tests.browser.site import Server

PACKAGE = "onnxruntime-web@1.30.0"
SCRIPT = Path(__file__).with_name("browser.js")
Array = npt.NDArray[Any]


def main() -> None:
    """Measure the pairs and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pair", nargs=2, action="append", required=True, metavar=("MODEL.onnx", "FOLDER"))
    parser.add_argument("--seconds", type=float, default=20.0, help="of steady runs a model")
    parser.add_argument("--tune", type=float, default=0.0, metavar="SECONDS", help="tune our model first")
    parser.add_argument("--hardware", action="store_true", help="the adapter that the browser finds, not SwiftShader")
    parser.add_argument("--json", type=Path, help="write the rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tamago-browser-") as name:
        root = Path(name)
        _install(root)
        flags = WEBGPU[:1] if options.hardware else WEBGPU
        server, browser = Server(root), Chromium(flags)
        try:
            rows = [
                _measure(server, browser, root, number, Path(model), Path(folder), options)
                for number, (model, folder) in enumerate(options.pair)
            ]
        finally:
            browser.close()
            server.close()
    print(_table(rows))
    if options.json is not None:
        options.json.write_text(json.dumps({"package": PACKAGE, "rows": rows}, indent=2))


def _install(root: Path) -> None:
    subprocess.run(["npm", "install", "--silent", "--prefix", str(root / "npm"), PACKAGE], check=True)
    (root / "ort").symlink_to(root / "npm" / "node_modules" / "onnxruntime-web" / "dist")
    (root / "blank.html").write_text("<!doctype html><link rel=icon href='data:,'>")
    (root / "browser.js").symlink_to(SCRIPT)


def _measure(
    server: Server, browser: Chromium, root: Path, number: int, model: Path, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """One model, in a page of its own: no runtime is warm."""
    place = root / str(number)
    place.mkdir()
    (place / "model.onnx").symlink_to(model.absolute())
    for data in model.parent.glob(f"{model.name}.data"):
        (place / data.name).symlink_to(data.absolute())
    (place / "site").symlink_to(folder.absolute())
    graph = read_model(model).graph
    plan = json.loads((folder / "model.json").read_text("utf-8"))["plan"]
    for value in graph.inputs:
        shape = next((i["shape"] for i in plan["inputs"] if i["name"] == value.name), None)
        if shape is not None:
            value.shape = type(value.shape)(shape) if value.shape is not None else None
    feeds = make_feeds(graph, 0) or {}
    feeds = {n: np.zeros_like(a) if n in plan["state"].values() else a for n, a in feeds.items()}
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs() if o.name not in plan["state"]]
    computed: Any = session.run(names, feeds)
    wanted: dict[str, Array] = dict(zip(names, computed, strict=True))
    settings = {
        "inputs": [_file(place, f"in{i}", n, a) for i, (n, a) in enumerate(feeds.items())],
        "outputs": [_file(place, f"out{i}", n, a) for i, (n, a) in enumerate(wanted.items())],
        "seconds": options.seconds,
        "tune": options.tune,
        "folder": f"/{number}/",
    }
    with browser.page(f"{server.url}blank.html") as page:
        script = f"return (await import('/browser.js')).measure({json.dumps(settings)})"
        found = page.run(script, seconds=600 + 4 * options.seconds)
    for side in ("ours", "theirs"):
        files = [root / urlsplit(url).path.lstrip("/") for url in found[side].pop("fetched")]
        found[side]["bytes"] = sum(f.stat().st_size for f in files)
        found[side]["gzip"] = sum(len(zlib.compress(f.read_bytes(), 6, 31)) for f in files)
    return {"model": model.stem, **found}


def _file(place: Path, file: str, name: str, array: Array) -> dict[str, Any]:
    """An array that the page fetches."""
    (place / file).write_bytes(np.ascontiguousarray(array).tobytes())
    return {"name": name, "file": file, "dtype": str(array.dtype), "shape": list(array.shape)}


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [f"adapter: {rows[0]['adapter']}; {PACKAGE}"]
    lines += ["| model | | first run, ms | steady, ms | dispatches | MB fetched | gzip | error |", "|---" * 8 + "|"]
    for row in rows:
        for side, label in (("ours", "tamago"), ("theirs", "onnxruntime-web")):
            one = row[side]
            figures = f"{one['first']:.0f} | {one['steady']:.2f} | {one['dispatches']}"
            sent = f"{one['bytes'] / 1e6:.2f} | {one['gzip'] / 1e6:.2f}"
            lines.append(f"| {row['model']} | {label} | {figures} | {sent} | {one['error']:.1e} |")
        lines.append(
            f"| | ratio | {row['firstRatio']:.2f}x | {row['steadyRatio']:.2f}x of {row['rounds']} rounds | | | | |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
