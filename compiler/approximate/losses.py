"""Losses: how they are evaluated on a program's outputs, and the curvature that predicts their rise.

For a likelihood the expected second derivative by a place's output is the covariance of the gradient when labels are
drawn from the model itself (Fisher information; Martens & Grosse, K-FAC, ICML 2015, arXiv:1503.05671). A form that
moves the output by e then raises the loss by ½ E[(g·e)²]. Directions of the labels' covariance take their place, which
scatter less. The same holds for a squared distance with random directions, and for a function that judges each number
by itself with random directions in the measure of its second derivatives. For any other function of the outputs the
gradient at the owner's targets takes their place: its scale is a guess, which the search corrects by what it measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import TamagoError
from .budget import Budget
from .calibration import Sample, blamed_on

if TYPE_CHECKING:
    import torch

Structure = Callable[[Sequence[Any]], Any]
Kind = Literal["cross-entropy", "kl", "distance", "function"]
CLOSE = 1e-4  # relative: a function within this of cross-entropy is cross-entropy
CLOSE_IN_HALF = 2e-3  # the same where it is computed in half precision
NO_LABEL = -100  # torch's class number of what does not count
WHOLE = 1e-3  # how near to one probabilities add up, in half precision too
PICTURE = 4  # dimensions from which on, where no labels tell, classes lie where torch has them: second


@dataclass(frozen=True)
class Curvature:
    """A scalar to differentiate, and what the square of gradient times error is to be multiplied by.

    `terms` is how many parts of the outputs the loss judges one by one: class numbers, examples. `loss` is the sample's
    own loss, where it has one: the model may be surer than it is right, and then the gradient at the true labels has a
    mean. `drawn`: whether the scalar is another one whenever it is asked for.
    """

    scalar: torch.Tensor
    factor: float
    terms: int
    loss: torch.Tensor | None = None
    drawn: bool = True


@dataclass(frozen=True)
class Classes:
    """Where the outputs tell classes apart: which output, along which axis, and whether it holds probabilities."""

    output: int = 0
    axis: int = -1
    probabilities: bool = False

    def rows(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Logits, one row for each label; of probabilities their logarithms, which are logits of them."""
        import torch

        found = outputs[self.output].movedim(self.axis, -1)
        found = found.reshape(-1, found.shape[-1])
        found = _wide(found)
        return found.clamp(min=torch.finfo(found.dtype).tiny).log() if self.probabilities else found

    def describe(self, names: Sequence[str]) -> str:
        """What a report should say; empty where nothing had to be guessed."""
        if len(names) == 1 and self.axis == -1 and not self.probabilities:
            return ""
        axis = "" if self.axis == -1 else f", along axis {self.axis}"
        what = ", which holds probabilities: their logarithms are judged" if self.probabilities else ""
        return f"classes are told by the output {names[self.output]!r}{axis}{what}"


@dataclass(frozen=True)
class LossModel:
    """The loss of one compilation.

    Args:
        kind: what it is known to be.
        function: `loss(outputs, target)` of the owner; None where the kind says it all.
        structure: the graph's outputs as the owner's function takes them.
        classes: where the outputs tell classes apart, where that matters.
    """

    kind: Kind
    function: Callable[[Any, Any], Any] | None
    structure: Structure
    classes: Classes = Classes()

    @property
    def needs_original(self) -> bool:
        """Whether it compares with the original's outputs instead of targets."""
        return self.function is None and self.kind in ("kl", "distance")

    def value(self, outputs: Sequence[torch.Tensor], target: Any) -> float:
        """The loss of one sample.

        Raises:
            TamagoError: U046, the owner's function failed.
        """
        import torch

        with torch.no_grad():
            return float(self._call(outputs, target))

    def _call(self, outputs: Sequence[torch.Tensor], target: Any) -> torch.Tensor:
        import torch

        try:
            if self.function is None:
                return _cross_entropy(self.classes.rows(outputs), target)
            found = self.function(self.structure(_copies(outputs)), target)
            found = found if isinstance(found, torch.Tensor) else torch.as_tensor(float(found))
        except Exception as error:  # the owner's function may fail in any way
            raise TamagoError("U046", "the loss failed on a sample", why=f"{type(error).__name__}: {error}") from error
        if found.numel() != 1:
            why = f"it has the shape {tuple(found.shape)}"
            raise TamagoError("U046", "the loss of a sample must be one number", why=why, todo="return its mean")
        return found

    def distance(self, outputs: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> torch.Tensor:
        """How far outputs are from the original's: what retraining makes small.

        The divergence from its distribution where the loss is a likelihood, else the squared error relative to its
        outputs. Targets are not looked at: what the original says of an example tells more than its label, and the
        rises of single examples scatter less, which the proof has to see past.
        """
        import torch
        from torch.nn.functional import kl_div, log_softmax

        if self.kind in ("cross-entropy", "kl"):
            found, given = (log_softmax(self.classes.rows(o), -1) for o in (outputs, wanted))
            return kl_div(found, given, reduction="batchmean", log_target=True)
        pairs = [(_wide(o), _wide(w)) for o, w in zip(outputs, wanted, strict=True) if w.is_floating_point()]
        error = torch.stack([torch.square(o - w).sum() for o, w in pairs]).sum()
        return error / max(sum(float(torch.square(w).sum()) for _, w in pairs), 1e-30)

    def divergence(self, outputs: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
        """Mean KL(the original's distribution ‖ the program's) over rows."""
        from torch.nn.functional import kl_div, log_softmax

        found, given = (log_softmax(self.classes.rows([o.double() for o in every]), -1) for every in (outputs, wanted))
        return float(kl_div(found, given, reduction="batchmean", log_target=True))

    def curvature(self, outputs: Sequence[torch.Tensor], target: Any, generator: torch.Generator) -> Curvature:
        """What to differentiate on one sample, for a prediction in this loss' own units."""
        import torch

        floats = [_wide(o) for o in outputs if o.is_floating_point()]
        if self.kind in ("cross-entropy", "kl"):
            rows = self.classes.rows(outputs)
            counts = torch.ones(len(rows), 1)
            loss = self._call(outputs, target) if self.kind == "cross-entropy" and target is not None else None
            if loss is not None:
                counts = (_labels(target) != NO_LABEL).to(rows)[:, None]
            scalar = (rows * counts * _direction(rows.detach(), generator)).sum()
            return Curvature(scalar, 0.5 / max(float(counts.sum()), 1.0), len(rows), loss)
        if self.kind == "distance":
            directions = [torch.randn(o.shape, generator=generator) for o in floats]
            scalar = torch.stack([(o * d).sum() for o, d in zip(floats, directions, strict=True)]).sum()
            norm = sum(float((o.detach() ** 2).sum()) for o in floats)
            return Curvature(scalar, 1.0 / max(norm, 1e-30), 0)
        loss, second = self._call(outputs, target), self._second_derivatives(outputs, target, generator)
        if second is not None:
            directions = [torch.sqrt(h) * torch.randn(h.shape, generator=generator) for h in second]
            scalar = torch.stack([(o * d).sum() for o, d in zip(floats, directions, strict=True)]).sum()
            return Curvature(scalar, 0.5, 0, loss)
        terms = _terms(target, floats)
        return Curvature(loss * terms, 0.5 / terms, terms, loss, drawn=False)

    def _second_derivatives(
        self, outputs: Sequence[torch.Tensor], target: Any, generator: torch.Generator
    ) -> list[torch.Tensor] | None:
        """Of a loss that judges each number by itself: squared error, binary cross-entropy; None: it does not.

        With signs d, d∘(H d) is the diagonal of H if H is diagonal, whatever the signs (Bekas et al., Applied Numerical
        Mathematics 57, 2007). Gauss-Newton with it has the loss' own scale, which the gradient at the targets has not.
        """
        import torch

        given = [o.detach().clone().requires_grad_(o.is_floating_point()) for o in outputs]
        floats = [o for o in given if o.requires_grad]
        found: list[list[torch.Tensor]] = []
        with torch.enable_grad():
            try:
                first = torch.autograd.grad(
                    self._call(given, target), floats, create_graph=True, materialize_grads=True
                )
                for _ in range(2):
                    signs = [torch.randint(0, 2, o.shape, generator=generator) * 2.0 - 1.0 for o in floats]
                    dotted = torch.stack([(g * s).sum() for g, s in zip(first, signs, strict=True)]).sum()
                    again = torch.autograd.grad(dotted, floats, retain_graph=True, materialize_grads=True)
                    found.append([h * s for h, s in zip(again, signs, strict=True)])
            except RuntimeError:  # nothing to differentiate twice
                return None
        largest = max((float(h.abs().max()) for h in found[0] if h.numel()), default=0.0)
        if not 0 < largest < float("inf"):
            return None
        alike = all(torch.allclose(a, b, rtol=CLOSE, atol=CLOSE * largest) for a, b in zip(*found, strict=True))
        return [h.clamp(min=0.0) for h in found[0]] if alike else None


def _direction(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random vector v for each row of logits with E[vvᵀ] = diag p − ppᵀ, the Hessian of cross-entropy by them.

    v = √p∘ε − p·(√p·ε) with random signs ε. The gradient at a label drawn from the model has the same covariance; but
    where the model is sure, a class of probability p that matters is met once in 1/p draws, and what is predicted of a
    few hundred is as good as those they happened to be. With signs the variance of (v·e)² is at most twice the square
    of its mean, whatever p.
    """
    import torch

    root = torch.softmax(rows, -1).sqrt()
    signed = root * (torch.randint(0, 2, rows.shape, generator=generator) * 2 - 1)
    return signed - root.square() * signed.sum(-1, keepdim=True)


def _copies(outputs: Sequence[Any]) -> list[Any]:
    """For a function that may work in place."""
    return [o.clone() if hasattr(o, "clone") else o for o in outputs]


def _terms(target: Any, outputs: Sequence[torch.Tensor]) -> int:
    """How many independent terms a mean loss is thought to have: one for each class number, or for each example."""
    import torch

    if isinstance(target, torch.Tensor) and not target.is_floating_point():
        return max(target.numel(), 1)
    return max(outputs[0].shape[0] if outputs and outputs[0].dim() else 1, 1)


def _cross_entropy(rows: torch.Tensor, target: Any) -> torch.Tensor:
    from torch.nn.functional import cross_entropy

    if target is None:
        raise ValueError("cross-entropy needs class numbers, and the target is None")
    return cross_entropy(rows, _labels(target))


def _labels(target: Any) -> torch.Tensor:
    import torch

    labels = torch.as_tensor(np.asarray(target)) if not isinstance(target, torch.Tensor) else target
    return labels.reshape(-1).long()


def loss_model(budget: Budget, structure: Structure, outputs: Sequence[torch.Tensor], sample: Sample) -> LossModel:
    """What the owner's loss is, from its name or from what it does on one sample.

    A function that agrees with cross-entropy on the logits of some output is a likelihood whoever wrote it.
    """
    found = _classes(outputs, sample.target)
    if budget.metric is not None:
        return LossModel("kl" if found else "distance", None, structure, found[0] if found else Classes())
    if budget.loss is None or budget.loss == "mse":
        if not any(o.is_floating_point() for o in outputs):
            raise TamagoError("U046", "no output is a floating-point number to judge", todo="give a loss or a metric")
        return LossModel("distance", None, structure)
    if budget.loss in ("cross-entropy", "kl"):
        classes = found[0] if found else _without_labels(outputs)
        return LossModel(budget.loss, None, structure, classes)  # type: ignore[arg-type]
    assert callable(budget.loss)
    plain = LossModel("function", budget.loss, structure)
    with blamed_on(sample):
        wanted = plain.value(outputs, sample.target)
    for classes in found + [replace(c, probabilities=False) for c in found if c.probabilities]:
        close = CLOSE if _wide(outputs[classes.output]) is outputs[classes.output] else CLOSE_IN_HALF
        if abs(wanted - _value(outputs, classes, sample.target)) <= close * max(abs(wanted), 1e-6):
            return LossModel("cross-entropy", budget.loss, structure, classes)
    return plain


def _wide(output: torch.Tensor) -> torch.Tensor:
    """At least in single precision: halves overflow where they are squared and summed."""
    import torch

    return output if output.dtype == torch.float64 else output.float()


def _classes(outputs: Sequence[torch.Tensor], target: Any) -> list[Classes]:
    """What the targets may be class numbers of, likeliest first: the last axis or, as torch has it, the second."""
    import torch

    if not isinstance(target, (torch.Tensor, np.ndarray, int, np.integer)):
        return []
    labels = torch.as_tensor(np.asarray(target))
    if labels.is_floating_point() or labels.numel() == 0:
        return []
    found: list[Classes] = []
    for index, output in enumerate(outputs):
        if not output.is_floating_point() or output.dim() < 1:
            continue
        for axis in (-1, 1) if output.dim() > 2 else (-1,):
            count, shape = output.shape[axis], list(output.shape)
            del shape[axis]
            fits = list(labels.shape) == shape if axis == 1 else labels.numel() == output.numel() // max(count, 1)
            if fits and count > 1 and bool(((labels >= 0) & (labels < count) | (labels == NO_LABEL)).all()):
                found.append(Classes(index, axis, _adds_up(output, axis)))
    return sorted(found, key=lambda classes: _value(outputs, classes, target)) if len(found) > 1 else found


def _without_labels(outputs: Sequence[torch.Tensor]) -> Classes:
    """The first output that can be one of classes; of pictures the second axis unless they add up in the last."""
    several = [i for i, o in enumerate(outputs) if o.is_floating_point() and o.dim() > 0 and o.shape[-1] > 1]
    index = several[0] if several else 0
    output = outputs[index]
    axes = (1, -1) if output.dim() >= PICTURE else (-1,)
    whole = [axis for axis in axes if _adds_up(output, axis)]
    return Classes(index, whole[0] if whole else axes[0], bool(whole))


def _adds_up(output: torch.Tensor, axis: int) -> bool:
    """Whether these are probabilities: a softmax of them would squash what the owner bounds."""
    if not output.is_floating_point() or output.dim() < 1 or output.shape[axis] < 2:
        return False
    values = output.detach().double()
    return bool((values >= 0).all() and (values.sum(axis) - 1).abs().max() < WHOLE)


def _value(outputs: Sequence[torch.Tensor], classes: Classes, target: Any) -> float:
    return float(_cross_entropy(classes.rows(outputs).detach(), target))
