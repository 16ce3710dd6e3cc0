"""Hooks of mkdocs, for the site that `make docs` builds.

Links of a page to files outside docs/ lead to the repository: beside docs/, `../examples` is a folder, but the site has
none. And no page asks GitHub for the repository's stars while it is read.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<=\]\()\.\./[^)\s#]*")  # the path of a Markdown link that leaves the page's folder
STARS = ' data-md-component="source"'  # the element that the theme's script fills in
LOG = logging.getLogger("mkdocs.site_hooks")  # a warning here fails a strict build


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """The text of a page, with its links rewritten."""
    return to_repository(markdown, page.file.src_uri, Path(config.docs_dir), config.repo_url)


def on_post_page(output: str, **_: Any) -> str:
    """The HTML of a page, without the request for stars."""
    return output.replace(STARS, "")


def to_repository(markdown: str, page: str, docs: Path, url: str) -> str:
    """`markdown` of the page `page`, a path within `docs`, with links out of `docs` turned into those of `url`.

    Warns of a link to a file that does not exist.
    """

    def address(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(docs.name, posixpath.dirname(page), link[0]))
        if path.startswith(f"{docs.name}/"):
            return link[0]
        target = docs.parent / path
        if not target.exists():
            LOG.warning("%s: the link %s leads to no file of the repository", page, link[0])
        return f"{url}/{'tree' if target.is_dir() else 'blob'}/main/{path}"

    return LINK.sub(address, markdown)
