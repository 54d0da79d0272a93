"""Checks of the built site: no network when it is read, no dead link, every public name."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from docstrings import PUBLIC

if TYPE_CHECKING:
    from pathlib import Path

#: Attributes by which a page loads something, or leads somewhere.
_LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src")}
_LEADS = {("a", "href")}


class _Page(HTMLParser):
    """The anchors of a page, what it loads, and where it leads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name in ("id", "name"):
                self.ids.add(value)
            elif (tag, name) in _LOADS or (tag == "link" and name == "href"):
                self.loads.append(value)
            elif (tag, name) in _LEADS:
                self.links.append(value)


def check_site(site: Path) -> list[str]:
    """Return what is wrong with a site, as sentences.

    Args:
        site: Its folder.
    """
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    faults = []
    for path, page in pages.items():
        where = path.relative_to(site)
        for target in dict.fromkeys(page.loads):
            if urlsplit(target).scheme or target.startswith("//"):
                faults.append(f"{where} loads {target}: a page must need no network.")
            else:
                faults += _follow(target, path, where, pages)
        for target in dict.fromkeys(page.links):
            faults += _follow(target, path, where, pages)
    ids = set().union(*(page.ids for page in pages.values()))
    faults += [
        f"{module.path}.{name} is public and on no page: docs/api lacks it, or it a docstring."
        for module in PUBLIC
        for name in module.exports or ()
        if ids.isdisjoint({module[str(name)].canonical_path, *module[str(name)].aliases})
    ]
    return faults


def _follow(target: str, path: Path, where: Path, pages: dict[Path, _Page]) -> list[str]:
    url = urlsplit(target)
    if url.scheme or url.netloc:
        right = url.scheme == "mailto" or (url.scheme in ("http", "https") and "." in url.netloc)
        return [] if right else [f"{where} leads to {target}, which is no address."]
    if url.path.startswith("/") or where.name == "404.html":
        return []  # the page for what is not found lies anywhere
    file = (path.parent / unquote(url.path)).resolve() if url.path else path
    if file.is_dir():
        file /= "index.html"
    if not file.is_file():
        return [f"{where} leads to {target}, which does not exist."]
    if url.fragment and file in pages and unquote(url.fragment) not in pages[file].ids:
        return [f"{where} leads to {target}, where that anchor does not exist."]
    return []
