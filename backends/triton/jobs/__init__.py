"""What is tuned: one kernel for one shape, dtype and fusion; settings hold for all calls that agree in these.

A file for each kernel: its job (`of_call` reads one from a program), its candidates, and the subject that they are
measured on. What is added here is tuned: nothing else names the kernels. Triton is imported only where a candidate is
asked for or launched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .attention import AttentionJob
from .attention_step import AttentionStepJob
from .convolution import AffineJob, ConvolutionJob
from .depthwise import DepthwiseJob
from .depthwise_squeeze import DepthwiseSqueezeJob
from .gemv import GemvJob
from .gemv_nbits import GemvNBitsJob
from .layer_norm import LayerNormJob
from .mlp import MlpJob
from .separable import SeparableJob
from .squeeze_excite import MeanPixelsJob, SqueezeExciteJob

Job = (
    AttentionJob
    | AttentionStepJob
    | GemvJob
    | GemvNBitsJob
    | ConvolutionJob
    | AffineJob
    | DepthwiseJob
    | LayerNormJob
    | MlpJob
    | SeparableJob
    | SqueezeExciteJob
    | MeanPixelsJob
    | DepthwiseSqueezeJob
)
KINDS: tuple[type[Job], ...] = (
    *(GemvJob, GemvNBitsJob, AttentionStepJob, AttentionJob),
    *(ConvolutionJob, AffineJob, DepthwiseJob, LayerNormJob, MlpJob, SeparableJob),
    *(SqueezeExciteJob, MeanPixelsJob, DepthwiseSqueezeJob),
)

__all__ = [
    "KINDS",
    "AffineJob",
    "AttentionJob",
    "AttentionStepJob",
    "ConvolutionJob",
    "DepthwiseJob",
    "DepthwiseSqueezeJob",
    "GemvJob",
    "GemvNBitsJob",
    "Job",
    "LayerNormJob",
    "MeanPixelsJob",
    "MlpJob",
    "SeparableJob",
    "SqueezeExciteJob",
    "job_of",
]


def job_of(fields: Mapping[str, Any]) -> Job:
    """The job that `asdict` made these fields of."""
    (kind,) = (k for k in KINDS if k.kernel == fields["kernel"])
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return kind(**given)
