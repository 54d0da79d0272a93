"""The core's own device and the tests' stand-in, in the suite that all devices must pass."""

from __future__ import annotations

import pytest

from kappacore import plugins
from kappacore.testing import DeviceSuite
from support.standin_device import StandIn


class TestCPU(DeviceSuite):
    device = "cpu"


class TestStandIn(DeviceSuite):
    device = "standin"

    @pytest.fixture(autouse=True)
    def _registered(self):
        plugins.register_device("standin", StandIn)
        yield
        plugins.unregister_device("standin")
