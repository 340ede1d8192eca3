"""What is tuned: one kernel for one shape, dtype and fusion; settings hold for all calls that agree in these.

A file for each kernel: its job (`of_call` reads one from a program), its candidates, and the subject that they are
measured on. What is added here is tuned: nothing else names the kernels. Triton is imported only where a candidate is
asked for or launched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .affine import AffineJob
from .attention import AttentionJob
from .attention_step import AttentionStepJob
from .convolution import ConvolutionJob
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
IMPLIED: Mapping[type[Job], Mapping[str, Any]] = {  # what records older than a field mean
    MlpJob: {"normed": False},
    AffineJob: {"normed": False},
}

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
    "fields_of",
    "job_of",
]


def fields_of(job: Job) -> dict[str, Any]:
    """What a job is sent, kept and found by: all its fields, but one that says what it is not there says too.

    So a record that is older than a field stays the record of the same job.
    """
    implied = IMPLIED.get(type(job), {})
    return {name: value for name, value in asdict(job).items() if name not in implied or value != implied[name]}


def job_of(fields: Mapping[str, Any]) -> Job:
    """The job that `fields_of` says this of."""
    (kind,) = (k for k in KINDS if k.kernel == fields["kernel"])
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return kind(**given)
