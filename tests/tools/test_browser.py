"""What people open in a browser: no errors, nothing from outside, no sideways scroll, on a phone and on a desk.

Needs Chromium. The site is looked at if `make docs` has built it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from evaluated import write
from pipeline import report
from repository import TOP
from tools.screenshots import chromium

WIDTHS = (390, 1280)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SITE = TOP / "site"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        path = chromium()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def complaints(browser: Browser, address: str) -> list[str]:
    """What is wrong with a page: errors while it loads, requests that fail, widths at which it scrolls sideways."""
    out: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: out.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: out.append(f"script: {error}"))
    page.on("requestfailed", lambda request: out.append(f"not loaded: {request.url}"))
    page.goto(address)
    for scheme, width in product(SCHEMES, WIDTHS):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
            out.append(f"{scheme}, {width} px: the page is {wide} px wide")
    page.close()
    return out


def luminance(page: Page, what: str) -> float:
    """Of a colour of the body, 0 to 255."""
    colour = page.evaluate(f"getComputedStyle(document.body).{what}")
    return sum(map(float, colour.partition("(")[2].rstrip(")").split(",")[:3])) / 3


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    paths = write(tmp_path_factory.mktemp("root"))
    paths.report.parent.mkdir()
    paths.report.write_text(report.render(paths), encoding="utf-8")
    return paths.report


def test_the_report(browser: Browser, reported: Path) -> None:
    assert complaints(browser, reported.as_uri()) == []
    page = browser.new_page()
    page.goto(reported.as_uri())
    for scheme, dark in zip(SCHEMES, (False, True), strict=True):
        page.emulate_media(color_scheme=scheme)
        assert (luminance(page, "color") > luminance(page, "backgroundColor")) == dark
    page.close()


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the built site."""
    if not (SITE / "index.html").is_file():
        pytest.skip("no site/index.html: `make docs` builds it")
    handler = partial(SimpleHTTPRequestHandler, directory=SITE)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_site(browser: Browser, site: str) -> None:
    pages = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if path.name != "404.html")
    assert {name: said for name in pages if (said := complaints(browser, f"{site}/{name}"))} == {}
