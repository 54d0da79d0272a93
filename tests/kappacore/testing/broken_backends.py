"""Backends that each break one promise; the suite must fail for every one of them."""

from __future__ import annotations

import broken_claims
import broken_lifetime
import broken_locations
import broken_namespaces
import broken_sharing
import broken_values
import pytest
from test_folder_backend import FolderSuite

from kappacore import register_cache_backend


def suite_of(cls):
    """The suite for a backend, which is registered under its name."""
    name = cls.__name__.lower()
    register_cache_backend(name, cls)
    settings = {"timeout": cls.timeout} if hasattr(cls, "timeout") else {}
    return type(f"Test{cls.__name__}", (FolderSuite,), {"backend": name, **settings})


for _module in (
    *(broken_values, broken_namespaces, broken_lifetime),
    *(broken_sharing, broken_claims, broken_locations),
):
    for _name, _cls in vars(_module).items():
        if isinstance(_cls, type) and _cls.__module__ == _module.__name__:
            globals()[f"Test{_name}"] = suite_of(_cls)


class TestUnpicklable(FolderSuite):  # in its options
    backend = "folder"

    @pytest.fixture
    def backend_options(self, tmp_path):
        return {"path": tmp_path, "extra": lambda: None}
