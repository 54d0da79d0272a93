"""What the build of the site refuses (``make docs``)."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import kappacore

DOCS = Path(__file__).parents[1] / "docs"

check_site = runpy.run_path(str(DOCS / "_mkdocs/checks.py"))["check_site"]


def faults(folder: Path, page: str, public: dict[str, set[str]] | None = None) -> list[str]:
    (folder / "guide").mkdir()
    (folder / "guide" / "index.html").write_text('<h2 id="there">…</h2>')
    (folder / "start.html").write_text(page)
    return check_site(folder, public or {})


@pytest.mark.parametrize(
    "page",
    [
        '<a href="guide/">…</a><a href="guide/index.html#there">…</a><a href="#up" id="up">…</a>',
        '<a href="https://example.org/a#b">…</a><a href="mailto:a@example.org">…</a>',
        '<img src="guide/index.html"><link rel="icon" href="guide/index.html">',
    ],
)
def test_a_whole_site_has_no_faults(page, tmp_path):
    assert faults(tmp_path, page) == []


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<a href="gone.html">…</a>', "leads to gone.html, which does not exist"),
        ('<a href="guide/index.html#gone">…</a>', "anchor does not exist"),
        ('<a href="#gone">…</a>', "anchor does not exist"),
        ('<a href="https:///example.org">…</a>', "no address"),
        ('<a href="htp://example.org">…</a>', "no address"),
        ('<script src="https://example.org/a.js"></script>', "must need no network"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "must need no network"),
        ('<img src="gone.png">', "leads to gone.png, which does not exist"),
    ],
)
def test_a_fault_is_named_with_its_page(page, fault, tmp_path):
    (found,) = faults(tmp_path, page)
    assert found.startswith("start.html ")
    assert fault in found


def test_a_public_name_is_on_a_page(tmp_path):
    public = {"core.Shown": {"core.a.Shown", "core.Shown"}, "core.Hidden": {"core.Hidden"}}
    (found,) = faults(tmp_path, '<h2 id="core.a.Shown">…</h2>', public)
    assert found.startswith("core.Hidden is public and on no page")


def test_the_page_of_names_has_all_at_the_top():
    page = (DOCS / "api/index.md").read_text()
    assert [name for name in kappacore.__all__ if f"[kappacore.{name}]" not in page] == []
