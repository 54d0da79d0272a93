"""The published figures: pages say what the results say, and plots are there."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def published(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks._published")


@pytest.fixture
def record(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT))
    report = importlib.import_module("benchmarks._report")
    monkeypatch.setenv(report.COLLECTED, str(tmp_path / "collected"))

    def recorded(*arguments):
        report.record(*arguments)
        lines = (tmp_path / "collected").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    return recorded


def test_the_ratio_of_a_time_and_of_a_rate_says_how_many_times_as_fast(record):
    record("a copy", {"ours": 2.0, "theirs": 5.0}, "ms", "theirs")
    results = record("an epoch", {"ours": 30.0, "theirs": 10.0}, "samples/s", "theirs")
    assert [(result["name"], result["ratio"]) for result in results] == [
        ("ours", 2.5),
        ("theirs", 1.0),
        ("ours", 3.0),
        ("theirs", 1.0),
    ]
    assert results[0]["case"] == "a copy"
    assert results[0]["peer"] == "theirs"


def test_a_figure_without_a_peer_has_no_ratio(record):
    assert record("growth", {"1,000 entries": 1.23456}, "µs") == [
        {"case": "growth", "name": "1,000 entries", "value": 1.235, "unit": "µs"}
    ]


def test_the_pages_show_the_published_results(published):
    """If not: `python -m benchmarks.plot`."""
    found = published.reports()
    assert len(found) >= 2
    for path in published.PAGES:
        text = path.read_text(encoding="utf-8")
        assert published.page(text, found) == text, path


def test_every_figure_of_a_published_run_has_a_plot(published):
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for figure in published.FIGURES:
        assert f"<!-- figure {figure.name} -->" in page
        assert any(published.bars(figure, report) for report in published.reports().values())
        svg = (ROOT / "docs" / "images" / f"bench-{figure.name}.svg").read_text(encoding="utf-8")
        assert len(svg) < 40_000
        assert not re.search("<dc:date>|<image", svg)  # the same results, the same bytes
