"""How long samples take to become bytes and come back, beside pickle, torch.save and safetensors.

Every figure is the best of several rounds on one thread, in microseconds. Ratios above 1 say that
the peer takes longer. Every way back gives a value of its own: pickle and safetensors copy, and so
does the codec (`copy=True`); `view` is the codec's `copy="unsafe"`.
"""

from __future__ import annotations

import importlib
import io
import pickle
import timeit
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import xxhash

from benchmarks._report import record
from kappacore.caching.codec import default_codec

if TYPE_CHECKING:
    from collections.abc import Callable

safetensors: Any
try:
    safetensors = importlib.import_module("safetensors.torch")
except ImportError:
    safetensors = None

Codecs = dict[str, tuple["Callable[[Any], Any]", "Callable[[Any], Any]"]]


def race(functions: dict[str, Callable[[], Any]], rounds: int = 15) -> dict[str, float]:
    """Return the time of one call of each in microseconds: the best of several rounds.

    They take turns, so what else the machine does slows all of them alike.
    """
    timers = {name: timeit.Timer(function) for name, function in functions.items()}
    numbers = {}
    for name, timer in timers.items():
        numbers[name] = max(1, int(0.01 / min(timer.repeat(5, 1))))
    times: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            times[name].append(timer.timeit(numbers[name]) / numbers[name])
    return {name: min(values) * 1e6 for name, values in times.items()}


def samples() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    jpeg = torch.randint(256, (100_000,), generator=generator, dtype=torch.uint8).numpy().tobytes()
    image = torch.randint(256, (224, 224, 3), generator=generator, dtype=torch.uint8)
    small = {f"feature{i}": torch.rand(16, generator=generator) for i in range(10)}
    return {
        "bytes 100 KB": jpeg,
        "(bytes 100 KB, int)": (jpeg, 417),
        "uint8 224x224x3": image,
        "dict of 10 tensors": small,
    }


def kappacore_codec() -> Codecs:
    codec = default_codec()

    def encode(sample: Any) -> Any:
        return codec.encode(sample, 7, "in1k-train.x.raw")

    def decode(stored: Any) -> Any:
        return codec.decode(stored, 7, "in1k-train.x.raw", verify=False)

    def verified(stored: Any) -> Any:
        return codec.decode(stored, 7, "in1k-train.x.raw", verify=True)

    def view(stored: Any) -> Any:
        return codec.decode(stored, 7, "in1k-train.x.raw", verify=False, copy="unsafe")

    return {
        "kappacore": (encode, decode),
        "kappacore, verify": (encode, verified),
        "kappacore, view": (encode, view),
    }


def torch_save(sample: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(sample, buffer)
    return buffer.getvalue()


def torch_load(stored: bytes) -> Any:
    return torch.load(io.BytesIO(stored), weights_only=True)


def safetensors_save(sample: Any) -> Any:
    return safetensors.save(sample if isinstance(sample, dict) else {"x": sample})


def peers(sample: Any) -> Codecs:
    found: Codecs = {
        "pickle 5": (lambda value: pickle.dumps(value, protocol=5), pickle.loads),
        "torch.save": (torch_save, torch_load),
    }
    if safetensors is not None and isinstance(sample, (dict, torch.Tensor)):
        found["safetensors"] = (safetensors_save, safetensors.load)
    return found


def joined(stored: Any) -> bytes:
    return b"".join(stored) if isinstance(stored, list) else stored


def floors(sample: Any) -> dict[str, Callable[[], Any]]:
    """Return what no decoder can be faster than."""
    if isinstance(sample, torch.Tensor):
        return {"tensor.clone()": sample.clone}
    if isinstance(sample, dict):
        return {"10 of tensor.clone()": lambda: {k: v.clone() for k, v in sample.items()}}
    data = memoryview(sample[0] if isinstance(sample, tuple) else sample)
    return {
        "one memcpy": lambda: bytes(data),
        "one xxh3-64": lambda: xxhash.xxh3_64_intdigest(data),
    }


def measure(sample: Any) -> tuple[dict[str, float], dict[str, float]]:
    encoders: dict[str, Callable[[], Any]] = {}
    decoders: dict[str, Callable[[], Any]] = {}
    for name, (encode, decode) in {**kappacore_codec(), **peers(sample)}.items():
        encoders[name] = partial(encode, sample)
        decoders[name] = partial(decode, joined(encode(sample)))
    return race(encoders), race({**decoders, **floors(sample)})


def main() -> None:
    torch.set_num_threads(1)
    for title, sample in samples().items():
        encoding, decoding = measure(sample)
        record(f"Encoding, {title}", encoding, "µs", "pickle 5")
        record(f"Decoding, {title}", decoding, "µs", "pickle 5")
        print(f"\n{title:24}{'encode':>10}{'decode':>11}{'encode':>11}{'decode':>9}")
        for name, decode in decoding.items():
            back = f"{decode:>8.1f} µs", f"{decode / decoding['kappacore']:>8.1f}x"
            there = " " * 10, " " * 10
            if name in encoding:
                encode = encoding[name]
                there = f"{encode:>7.1f} µs", f"{encode / encoding['kappacore']:>9.1f}x"
            print(f"  {name:22}{there[0]}{back[0]}{there[1]}{back[1]}")


if __name__ == "__main__":
    main()
