"""The page itself: what it shows and does, and that nothing from a model's file becomes code or markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamago.backends.webgpu.bundle import write_bundle
from tamago.backends.webgpu.plan import Plan
from tests.browser import plans
from tests.browser.chromium import Chromium, Page
from tests.browser.png import write_png
from tests.browser.site import Server

LABELS = ["<img src=x onerror=alert(1)>", "green", "blue"]
PICTURES = {"kind": "classifier", "labels": LABELS, "layout": "NCHW", "mean": [0, 0, 0], "std": [1, 1, 1]}
NAMES = {"token": "token", "position": "position", "logits": "logits"}
STEP = {"kind": "completion", "vocabulary": None, "length": 40, **NAMES}
SIZES = {"wide": (1200, 760), "narrow": (390, 780)}


def address(server: Server, root: Path, name: str, made: tuple[Plan, plans.Weights], **settings: Any) -> str:
    write_bundle(root / name, *made, name=f"{name} <b>&amp;", force=True, **settings)
    return f"{server.url}{name}/"


def text(page: Page, selector: str) -> str:
    return page.run(f"return document.querySelector({selector!r}).innerText")


def press(page: Page, button: str) -> None:
    page.run(f"document.querySelector('#{button}').click()")
    page.wait(f"!document.querySelector('#{button}').disabled")


def ready(page: Page) -> None:
    page.wait("!document.querySelector('#model').hidden || !document.querySelector('#problem').hidden")


def fits(page: Page) -> bool:
    """Nothing is wider than the window."""
    return page.run("return document.documentElement.scrollWidth <= innerWidth")


def test_any_model_has_a_page(chromium: Chromium, server: Server, root: Path) -> None:
    with chromium.page(address(server, root, "plain", plans.mlp(wrong=True))) as page:
        ready(page)
        assert text(page, "#name") == page.run("return document.title") == "plain <b>&amp;"
        assert "2 dispatches" in text(page, "#facts")
        assert "swiftshader (software)" in text(page, "#facts")
        assert text(page, "#interfaces").split("\n") == ["in", "x", "float32[4, 16]", "out", "y", "float32[4, 10]"]
        assert "Gemm <b>&amp;" in text(page, "#rows")  # labels before anything was measured

        press(page, "run")
        assert "40 in all" in text(page, "#figures")
        press(page, "time")
        assert "median" in text(page, "#figures")
        press(page, "profile")
        assert "one by one" in text(page, "#total")
        press(page, "tune")
        assert "choice 2: its result differs" in text(page, "#figures")
        for width, height in SIZES.values():
            page.look(width, height)
            assert fits(page)
        assert page.run("return document.querySelectorAll('main b, td b, img').length") == 0
        assert page.complaints == []  # the policy refused nothing that the page needs


def test_the_policy_holds(chromium: Chromium, server: Server, root: Path) -> None:
    """Neither markup nor scripts nor other hosts get a hold on the page."""
    with chromium.page(address(server, root, "policy", plans.accumulator())) as page:
        ready(page)
        page.run("""
            window.seen = [];
            document.addEventListener("securitypolicyviolation", (e) => seen.push(e.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.broken = true";
            document.body.append(script);
            const image = document.createElement("div");
            image.innerHTML = "<b style='color: red' onclick='window.broken = true'>x</b>";
            document.body.append(image);
            image.firstChild.click();
            await fetch("http://localhost:1/").catch(() => {});
            try { new Function("window.broken = true")(); } catch { seen.push("eval"); }""")
        page.wait("seen.includes('connect-src') && seen.includes('eval')")

        assert page.run("return window.broken ?? null") is None
        wanted = {"script-src-elem", "style-src-attr", "script-src-attr", "connect-src", "eval"}
        assert wanted <= set(page.run("return seen"))


def test_what_goes_wrong_is_text(chromium: Chromium, server: Server, root: Path) -> None:
    url = address(server, root, "damaged", plans.mlp())
    shard = root / "damaged" / "weights-0.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")
    with chromium.page(url) as page:
        ready(page)

        assert "weights-0.safetensors is damaged" in text(page, "#problem")
        assert page.run("return document.querySelector('#model').hidden")


def picture(path: Path, colour: tuple[int, int, int]) -> Path:
    """One colour, wider than high."""
    return write_png(path, np.full((10, 20, 3), colour, np.uint8))


def test_a_classifier_names_what_it_sees(chromium: Chromium, server: Server, root: Path, tmp_path: Path) -> None:
    with chromium.page(address(server, root, "pictures", plans.colours(), app=PICTURES)) as page:
        ready(page)
        for colour, best in (((255, 0, 0), LABELS[0]), ((0, 0, 255), "blue")):
            page.attach("#file", picture(tmp_path / "picture.png", colour))
            page.wait(f"document.querySelector('#classes b')?.textContent === {best!r}")
            assert "99.9 %" in text(page, "#classes li:first-child")
        assert page.run("return document.querySelectorAll('#classes img').length") == 0

        (tmp_path / "text.png").write_text("not a picture")
        page.attach("#file", tmp_path / "text.png")
        page.wait("document.querySelector('#problem').textContent.includes('no picture')")
        page.run("document.querySelector('#camera').click()")  # the browser makes up a green picture
        page.wait("document.querySelector('#classes b').textContent === 'green'")
        page.run("document.querySelector('#camera').click()")
        for width, height in SIZES.values():
            page.look(width, height)
            assert fits(page)
        assert page.complaints == []


@pytest.mark.parametrize(
    "vocabulary", [None, ["", *"DEFABC"], ["<s>", "▁A", "B", "</s>"]], ids=["bytes", "list", "pieces"]
)
def test_a_text_is_continued(chromium: Chromium, server: Server, root: Path, vocabulary: list[str] | None) -> None:
    """The model counts on from its first token: only what the cache kept knows that one."""
    app = STEP | {"vocabulary": vocabulary}
    with chromium.page(address(server, root, "text", plans.letters(), app=app)) as page:
        ready(page)
        words, count, wanted = ("ABC", 8, "ABCDEFGHIJK") if vocabulary is None else ("D", 3, "DEFA")
        if vocabulary and vocabulary[0] == "<s>":
            words, count, wanted = "A", 9, "AB"  # it ends at </s>
        page.run(
            f"document.querySelector('#prompt').value = {words!r}; document.querySelector('#count').value = {count}"
        )
        page.run("document.querySelector('#continue').click()")
        page.wait("document.querySelector('#continue').textContent === 'Continue'")

        assert text(page, "#text") == wanted
        assert "a second" in text(page, "#speed")
        long = " ".join("A" * 50) if "▁A" in (vocabulary or []) else "A" * 50
        page.run(f"document.querySelector('#prompt').value = {long!r}; document.querySelector('#continue').click()")
        page.wait("!document.querySelector('#problem').hidden")
        assert "room for 40" in text(page, "#problem")
        assert page.complaints == []
