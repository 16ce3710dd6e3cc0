"""The documentation's site: every page is in its menu, and links out of docs/ lead to files of the repository."""

import logging
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from repository import TOP
from tools.site_hooks import to_repository

DOCS = TOP / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
SITE: dict[str, Any] = yaml.safe_load((TOP / "mkdocs.yml").read_text(encoding="utf-8"))
URL = SITE["repo_url"]
API = [line[4:] for line in (DOCS / "api.md").read_text(encoding="utf-8").splitlines() if line.startswith("::: ")]


def entries(nav: Any) -> Iterator[str]:
    """The pages of a menu, whatever its groups."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from entries(part)


def test_the_menu_has_every_page_once() -> None:
    assert sorted(entries(SITE["nav"])) == PAGES


@pytest.mark.parametrize("name", API)
def test_every_name_of_the_api_imports(name: str) -> None:
    assert pkgutil.resolve_name(name).__doc__


@pytest.mark.parametrize(
    ("page", "text", "rewritten"),
    [
        ("a.md", "[text](../README.md)", f"[text]({URL}/blob/main/README.md)"),
        ("a.md", "[text](../README.md#limits), more", f"[text]({URL}/blob/main/README.md#limits), more"),
        ("a.md", "[text](../examples) [b](b.md)", f"[text]({URL}/tree/main/examples) [b](b.md)"),
        (
            "a.md",
            "[`x`](../runtime/lrpilot/decisions/features.py)",
            f"[`x`]({URL}/blob/main/runtime/lrpilot/decisions/features.py)",
        ),
        ("a.md", "[text](b.md#part), ![image](images/report.png)", None),
        ("a.md", "[text](https://example.org/../README.md) and ../README.md", None),
        ("a.md", "[text](../docs/policy.md)", None),
        ("folder/a.md", "[text](../policy.md)", None),
        ("folder/a.md", "[text](../../LICENSE)", f"[text]({URL}/blob/main/LICENSE)"),
    ],
)
def test_links_out_of_docs_lead_to_the_repository(page: str, text: str, rewritten: str | None) -> None:
    assert to_repository(text, page, DOCS, URL) == (text if rewritten is None else rewritten)


def test_a_link_to_no_file_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    to_repository("[text](../nowhere.md)", "a.md", DOCS, URL)
    assert [(record.levelno, record.name.split(".")[0]) for record in caplog.records] == [(logging.WARNING, "mkdocs")]
    assert "../nowhere.md" in caplog.text


@pytest.mark.parametrize("page", PAGES)
def test_every_page_links_to_files_that_exist(page: str, caplog: pytest.LogCaptureFixture) -> None:
    to_repository((DOCS / page).read_text(encoding="utf-8"), page, DOCS, URL)
    assert caplog.records == []
