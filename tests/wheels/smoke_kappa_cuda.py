"""The core and kappa-cuda: the device is found by its name; it needs a GPU to be opened."""

import importlib.util

import torch

import kappacore
from kappacore import plugins

assert importlib.util.find_spec("kappa_shared") is None
assert plugins.find("device", "cuda").distribution == "kappa-cuda"

dataset = kappacore.as_kd([(torch.full((4,), k), k) for k in range(6)], items=("x", "class"))
try:
    loader = kappacore.Loader(dataset, "x class", 3, device="cuda")
except kappacore.errors.DeviceUnavailableError as error:
    assert not torch.cuda.is_available()
    assert "no cuda device" in str(error)
    loader = kappacore.Loader(dataset, "x class", 3)
with loader:
    assert [batch["class"].tolist() for batch in loader] == [[0, 1, 2], [3, 4, 5]]
