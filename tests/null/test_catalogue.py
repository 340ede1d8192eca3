"""The page about the rules says what the rules say."""

from __future__ import annotations

from pathlib import Path

from tamago.rewrites.catalogue import catalogue

ROOT = Path(__file__).parents[2]


def test_the_page_is_current() -> None:
    """`python -m tamago.rewrites.catalogue` writes it again."""
    assert (ROOT / "rewrites" / "README.md").read_text() == catalogue()
