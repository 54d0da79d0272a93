"""The plugin, with or without a GPU."""

from __future__ import annotations

import pytest
import torch

import kappacore
from kappa_cuda._plugin import kappacore_devices
from kappa_cuda.device import CUDA
from kappacore.errors import DeviceUnavailableError
from kappacore.plugins import register_device, unregister_device
from support.numbers import Numbers


@pytest.fixture
def cuda():
    """The device under another name, which needs no installed distribution."""
    register_device("gpu", CUDA)
    yield "gpu"
    unregister_device("gpu")


def test_it_provides_the_device_cuda():
    (spec,) = kappacore_devices()
    assert (spec.name, spec.target) == ("cuda", "kappa_cuda.device:CUDA")


def test_a_gpu_that_is_not_there_is_an_error(cuda):
    with pytest.raises(DeviceUnavailableError, match=r"device='gpu:99' is not there"):
        kappacore.Loader(Numbers(3), "x", device=f"{cuda}:99")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_gpus_says_why(cuda):
    reason = r"torch .* is built without CUDA|torch\.cuda\.is_available\(\) is False"
    with pytest.raises(DeviceUnavailableError, match=rf"has no gpu device \(({reason})"):
        kappacore.Loader(Numbers(3), "x", device=cuda)
