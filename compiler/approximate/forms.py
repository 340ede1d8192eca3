"""A place computed with a weight that is written some other way: what exact forms and stored weights have in common."""

from __future__ import annotations

import numpy as np

from ..facts import Array
from ..rule import Expression, op
from .method import Form, X
from .places import Place
from .write import attributes_of


def exact_form(place: Place) -> Form:
    """The place as it is."""
    return Form("as it is", applied(place, place.weight))


def applied(place: Place, weight: Expression | Array) -> Expression:
    """The place with this in its weight's stead, laid out as `Place.weight` is."""
    match place.kind:
        case "linear":
            return biased(place, op.MatMul(X, weight))
        case "convolution":
            return activated(place, op.Conv(X, weight, place.bias, **attributes_of(place)))
        case "embedding":
            return op.Gather(weight, X)
        case "weight":
            return weight if isinstance(weight, Expression) else op.Identity(weight)


def biased(place: Place, product: Expression) -> Expression:
    """With the bias that the place adds, if it adds one."""
    return product if place.bias is None else op.Add(product, place.bias)


def activated(place: Place, term: Expression) -> Expression:
    """With the Relu or Clip that the place ends in."""
    if place.activation is None:
        return term
    if place.activation[0] == "Relu":
        return op.Relu(term)
    return op.Clip(term, *(np.asarray(b, np.float32) for b in place.activation[1:]))
