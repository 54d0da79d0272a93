"""Devices as plugins: choosing one, and what a Loader asks of it, checked by a stand-in."""

from __future__ import annotations

import pytest
import torch

import kappacore
from kappacore import plugins
from kappacore.errors import (
    BrokenPluginError,
    DeviceUnavailableError,
    InvalidOptionError,
    UnknownPluginError,
)
from kappacore.loading import Jagged
from kappacore.plugin_api import Device
from support.loading import Photos, equal, expected
from support.numbers import Numbers
from support.standin_device import StandIn


@pytest.fixture
def standin():
    plugins.register_device("standin", StandIn)
    StandIn.calls.clear()
    yield StandIn
    StandIn.gathers = True
    plugins.unregister_device("standin")


@pytest.fixture(params=["memory", "shared"])
def hot(request):
    items = "x array tensor boxes mixed"
    with kappacore.CacheWrapper(
        Photos(40), request.param, items=items, namespace="photos", max_bytes="16MiB"
    ) as ds:
        ds.prefill(progress=False)
        yield ds


# ---- choosing one


def test_the_cpu_is_the_cores_own():
    assert "cpu" in plugins.available("device")
    (batch,) = kappacore.Loader(Numbers(3), "x", 3, device=torch.device("cpu"))
    assert batch.device == torch.device("cpu")


@pytest.mark.parametrize("device", [3, None, "cpu:x", "cpu:", "cpu:-1"])
def test_what_is_no_device_is_refused(device):
    with pytest.raises(InvalidOptionError, match=r"is no device; expected 'cpu', 'cuda'"):
        kappacore.Loader(Numbers(3), "x", device=device)


@pytest.mark.parametrize("device", ["cpu:1", "standin:2"])
def test_a_device_that_is_not_there_is_an_error(standin, device):
    with pytest.raises(DeviceUnavailableError, match=rf"device='{device}' is not there: .* has"):
        kappacore.Loader(Numbers(3), "x", device=device)


def test_a_machine_without_such_devices_says_why(standin, monkeypatch):
    monkeypatch.setattr(StandIn, "count", classmethod(lambda cls: 0))
    monkeypatch.setattr(StandIn, "why_none", classmethod(lambda cls: "no driver"))
    with pytest.raises(DeviceUnavailableError, match=r"has no standin device \(no driver\)\. Choo"):
        kappacore.Loader(Numbers(3), "x", device="standin")


def test_cuda_without_its_plugin_says_how_to_install_it(monkeypatch):
    monkeypatch.setenv("KAPPACORE_DISABLE_PLUGINS", "kappa-cuda")
    plugins.refresh()
    try:
        with pytest.raises(UnknownPluginError, match=r"`pip install kappa-cuda`|kappa-cuda"):
            kappacore.Loader(Numbers(3), "x", device="cuda")
    finally:
        monkeypatch.undo()
        plugins.refresh()


def test_what_is_no_device_class_is_refused():
    plugins.register_device("odd", Numbers)
    try:
        with pytest.raises(BrokenPluginError, match=r"a class derived from .*plugin_api\.Device"):
            kappacore.Loader(Numbers(3), "x", device="odd")
    finally:
        plugins.unregister_device("odd")


def test_a_device_needs_two_methods_only():
    class Least(Device):
        def __init__(self, index):
            self.device = torch.device("cpu")

        @classmethod
        def count(cls):
            return 1

    plugins.register_device("least", Least)
    try:
        with kappacore.Loader(Photos(9), "x class name", 4, device="least", buffers="ring") as it:
            for number, batch in enumerate(it):
                rows = range(4 * number, min(9, 4 * number + 4))
                assert equal(tuple(batch), expected(Photos(9), "x class name", rows))
    finally:
        plugins.unregister_device("least")


# ---- what is asked of it


@pytest.mark.parametrize("gathers", [True, False])
@pytest.mark.parametrize("buffers", ["fresh", "ring"])
@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_every_address_and_every_time_of_use(standin, hot, buffers, prefetch, gathers):
    standin.gathers = gathers
    mode = "x array tensor class name index boxes"
    loader = kappacore.Loader(
        hot,
        mode,
        6,
        shuffle=True,
        device="standin:1",
        buffers=buffers,
        prefetch=prefetch,
        items={"boxes": {"ragged": "jagged"}, "array": {"mean": 0.5, "layout": "channels_last"}},
        resident=["class"],
    )
    plain = kappacore.Loader(
        Photos(40),
        mode,
        6,
        shuffle=True,
        items={"boxes": {"ragged": "jagged"}, "array": {"mean": 0.5, "layout": "channels_last"}},
    )
    with loader:
        for _ in range(2):
            for batch, wanted in zip(loader, plain, strict=True):
                assert equal(tuple(batch), tuple(wanted))
    assert {"gather", "gather_ragged", "upload", "finish"} <= {*standin.calls}
    assert ("wait" in standin.calls) == (buffers == "ring")


def test_what_cannot_be_gathered_goes_through_the_cpu(standin, hot):
    hot.clear()
    kappacore.ModeWrapper(hot, "x")[::2]
    with kappacore.Loader(hot, "x class", 8, device="standin", workers=1) as loader:
        for number, batch in enumerate(loader):
            rows = range(8 * number, 8 * number + 8)
            assert equal(tuple(batch), expected(Photos(40), "x class", rows))
    assert "gather" not in standin.calls


def test_clearing_and_growing_leave_batches_as_they_are(standin, hot):
    with kappacore.Loader(hot, "x", 4, device="standin", prefetch=3) as loader:
        for _ in range(3):
            for number, batch in enumerate(loader):
                if number == 3:
                    hot.clear()
                rows = range(4 * number, 4 * number + 4)
                assert torch.equal(batch, expected(Photos(40), "x", rows))


def test_leaving_early_and_closing(standin, hot):
    loader = kappacore.Loader(hot, "x", 4, device="standin")
    iterator = iter(loader)
    next(iterator)
    for _ in loader:
        break
    loader.close()
    assert list(iterator) == []


def test_samples_and_ctx_are_uploaded_too(standin):
    with kappacore.Loader(
        Photos(4),
        "parts boxes",
        4,
        device="standin",
        return_ctx=True,
        items={"boxes": {"ragged": "pad"}},
    ) as loader:
        ((batch, ctx),) = loader
    assert batch["parts"]["number"].tolist() == [0, 1, 2, 3]
    assert ctx["boxes"].tolist() == [0, 1, 2, 3]
    assert standin.calls.count("upload") == 5
    assert not isinstance(batch["boxes"], Jagged)
