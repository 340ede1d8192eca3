"""The ONNX backend tests, run through `torch_program` on a CUDA device: the base that the Triton target builds on.

`python -m pytest tests/gpu` on a machine with an NVIDIA GPU; elsewhere each test says why it is skipped. What fails on
the CPU for a reason of its own (`torch_expected_failures.toml`) is not asked again here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.conformance.test_torch_program import CASES, check, reason_to_fail

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    # cuDNN would rather have the weights of a recurrent layer in one piece: speed, not results.
    pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk:UserWarning"),
]


@pytest.fixture(autouse=True)
def _ieee() -> Iterator[None]:
    """Products and convolutions of float32 in float32, as the expected outputs were computed."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("name", sorted(name for name in CASES if reason_to_fail(name) is None))
def test_case(name: str) -> None:
    check(CASES[name], device="cuda")
