"""Fixtures of staging's tests."""

from __future__ import annotations

import pytest

from kappacore.staging.copying import transfer


@pytest.fixture(params=["threads", "processes"])
def road(request, monkeypatch):
    """Small files are copied by threads; by processes."""
    monkeypatch.setattr(transfer, "road", request.param)
    return request.param
