"""Products that were fused for a target are standard operators again, and can be fused anew."""

from __future__ import annotations

from tamago.backends.triton.regions import fused_products
from tamago.compiler.approximate.places import find_places
from tamago.compiler.operators import DOMAIN, attach
from tamago.compiler.written_out import written_out
from tests.cpu.test_fused_products import Graph, check_equal, layer, operators


def test_places_are_found_in_what_fused_products_mean() -> None:
    fused = fused_products(layer(Graph(packed=False)))
    assert fused is not None
    attach(fused)
    assert not find_places(fused.graph)

    found = written_out(fused)

    assert [p.shape for p in find_places(found.graph)] == [(64, 96), (64, 96), (96, 64)]
    assert not any(n.domain == DOMAIN for n in found.graph)
    again = fused_products(found)
    assert again is not None
    assert operators(again) == operators(fused)
    check_equal(fused, again, 1)


def test_a_program_without_them_is_given_back_as_it_is() -> None:
    model = layer(Graph(packed=True))
    assert written_out(model) is model
