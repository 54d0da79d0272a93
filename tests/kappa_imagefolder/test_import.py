"""Importing the package happens while plugins are being found, so it must cost nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import kappa_imagefolder

HEAVY = ("torch", "numpy", "PIL", "xxhash", "kappacore.datasets", "kappa_imagefolder.dataset")


def test_importing_the_package_or_its_plugin_imports_nothing_heavy():
    code = (
        "import sys, kappa_imagefolder, kappa_imagefolder._plugin as plugin\n"
        "specs = list(plugin.kappacore_sources())\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], specs[0].name)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[] imagefolder"


@pytest.mark.parametrize("name", kappa_imagefolder.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(kappa_imagefolder, name) is not None
    assert name in dir(kappa_imagefolder)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'kappa_imagefolder' has no attribute 'Nonsense'"):
        kappa_imagefolder.Nonsense  # noqa: B018
