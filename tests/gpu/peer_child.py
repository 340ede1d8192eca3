"""A process that holds onnxruntime-webgpu, which no process can hold beside onnxruntime.

`python peer_child.py model.onnx feeds.npz out.npz`: loads, answers once into `out.npz`, prints "ready", then for each
line with a number runs as often and prints the milliseconds of a run.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import onnxruntime as ort


def main() -> None:
    """Serve until the lines end."""
    model, feeds_file, out_file = sys.argv[1:]
    session = ort.InferenceSession(model, providers=["WebGpuExecutionProvider", "CPUExecutionProvider"])
    assert session.get_providers()[0] == "WebGpuExecutionProvider", session.get_providers()
    with np.load(feeds_file) as held:
        feeds = {name: held[name] for name in held.files}
    found = session.run(None, feeds)
    np.savez(out_file, *[np.asarray(a) for a in found])
    print("ready", ort.__version__, flush=True)
    for line in sys.stdin:
        runs = int(line)
        start = time.perf_counter()
        for _ in range(runs):
            session.run(None, feeds)
        print((time.perf_counter() - start) / runs * 1e3, flush=True)


if __name__ == "__main__":
    main()
