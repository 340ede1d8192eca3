"""Triton's interpreter, asked for before anything else imports Triton; and which tests run first.

A function is interpreted or compiled as its module was imported, Triton's own ones too, and importing transformers is
enough to import Triton (by torch._dynamo). Where there is a GPU, kernels are compiled and `tests/gpu` runs them.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules

import pytest
import torch

if find_spec("triton") is not None and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    kernels = import_module("tamago.backends.triton.kernels")
    for module in iter_modules(kernels.__path__, f"{kernels.__name__}."):
        import_module(module.name)
    del os.environ["TRITON_INTERPRET"]  # the processes that tests start compile


LONGEST = ("test_within_budget.py", "test_zoo.py", "test_onnx_backend.py")  # minutes each


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: a worker runs a file whole, and one of these, begun last, would keep the others waiting.

    Workers keep to this order with --no-loadscope-reorder; else the files with most tests go first.
    """
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
