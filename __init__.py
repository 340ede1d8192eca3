"""tamago: the cheapest program that computes your model within the error you allow.

fast = tamago.compile(model, args)          # called like the model
small = tamago.compile(model, args, budget=tamago.Budget(loss=loss, rise=0.01), calibration=batches)
tamago.optimize("in.onnx", "out.onnx")      # file to file
torch.compile(model, backend="tamago")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compiler.approximate.budget import Budget
    from .compiler.compiled import CompiledModel, compile, frontier, load, optimize
    from .compiler.errors import TamagoError
    from .compiler.generation.compile import compile_causal_lm
    from .compiler.generation.language_model import CausalLanguageModel

__all__ = [
    "Budget",
    "CausalLanguageModel",
    "CompiledModel",
    "TamagoError",
    "__version__",
    "compile",
    "compile_causal_lm",
    "frontier",
    "load",
    "optimize",
]

__version__ = "0.1.0"

# Names are imported when first asked for: `import tamago` costs milliseconds, not the seconds that torch takes.
_PLACES = {
    "Budget": "approximate.budget",
    "CausalLanguageModel": "generation.language_model",
    "CompiledModel": "compiled",
    "TamagoError": "errors",
    "compile": "compiled",
    "compile_causal_lm": "generation.compile",
    "frontier": "compiled",
    "load": "compiled",
    "optimize": "compiled",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'tamago' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".compiler.{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
