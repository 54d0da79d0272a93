"""What the build of the site adds to mkdocs: pages from outside of docs/, and the last check."""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from checks import check_site
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/])([^)#\s]+)")

#: Pages from outside of docs/: their paths in the site, and in the repository.
_outside: dict[str, str] = {}


def on_config(config: Any) -> Any:
    """Replace paths with a ``*`` in the navigation, and those outside of docs/, by pages."""
    config.nav = _with_pages(config.nav)
    return config


def _with_pages(entries: list[Any]) -> list[Any]:
    """A title without a page is left out."""
    found: list[Any] = []
    for entry in entries:
        if isinstance(entry, str):
            found += _pages(entry)
        else:
            ((title, inner),) = entry.items()
            pages = _with_pages(inner if isinstance(inner, list) else [inner])
            if pages:
                section = isinstance(inner, list) or "*" in inner
                found.append({title: pages if section else pages[0]})
    return found


def _pages(pattern: str) -> list[str]:
    if "*" not in pattern and not pattern.startswith("../"):
        return [pattern]
    files = sorted((ROOT / "docs").glob(pattern), key=lambda file: (file.name != "index.md", file))
    return [_page(posixpath.normpath(file.relative_to(ROOT).as_posix())) for file in files]


def _page(path: str) -> str:
    """Return where the site has a file of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    page = f"project/{path.replace('/README.md', '.md').lower()}"
    _outside[page] = path
    return page


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside of docs/."""
    for page, path in _outside.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links as the repository has them to the pages of the site.

    A link to a folder leads to its README, and one to the README at the top to the start.
    """
    uri = page.file.src_uri
    folder = posixpath.dirname(_outside.get(uri, f"docs/{uri}"))

    def lead(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        if path == "README.md":
            path = "docs/index.md"
        elif (ROOT / path / "README.md").is_file():
            path += "/README.md"
        if not path.startswith("docs/") and path not in _outside.values():
            return match[1]  # which mkdocs warns of
        return posixpath.relpath(_page(path), posixpath.dirname(uri) or ".")

    return _LINK.sub(lead, markdown)


def on_post_build(config: Any) -> None:
    """Check what was built; a warning fails a strict build."""
    for fault in check_site(Path(config.site_dir)):
        logging.getLogger("mkdocs.hooks.kappacore").warning(fault)
