"""What the cache engine costs, beside the bare backend and beside samples in an in-process list.

The list is the fastest that a dataset can be: forked workers read it where it is. Rounds of both
alternate, and the best of each counts. `make bench` installs what this needs.
"""

from __future__ import annotations

import argparse
import io
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import kappacore
from benchmarks._report import record
from benchmarks._timing import BATCH, best_of, seconds_per_epoch

if TYPE_CHECKING:
    from collections.abc import Callable


class Listed(Dataset[Any]):
    """Samples in a list, with a transform behind them."""

    def __init__(self, samples: list[Any], transform: Callable[[Any], Any] | None = None):
        self.samples = samples
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, idx: int) -> Any:
        sample = self.samples[idx]
        return sample if self.transform is None else self.transform(sample)


class Waiting(Listed):
    """The same behind a wait, as slow storage has it."""

    def __getitem__(self, idx: int) -> Any:
        time.sleep(0.002)
        return super().__getitem__(idx)


def photo(generator: np.random.Generator) -> bytes:
    """Make a JPEG of about 60 KB."""
    noise = generator.integers(0, 256, (96, 128, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def decode_and_crop(data: bytes) -> torch.Tensor:
    """Decode a JPEG and cut a random (3, 224, 224) out of it."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    left, top = (int(torch.randint(size - 224, ())) for size in image.size)
    crop = np.array(image.crop((left, top, left + 224, top + 224)))
    return torch.from_numpy(crop).permute(2, 0, 1).contiguous()


def compare(case: str, listed: Listed, cached: Any, rounds: int) -> str:
    """Measure both through a DataLoader with 2 workers."""
    seconds = seconds_per_epoch({"list": listed, "shared": cached}, rounds)
    rates = {name: len(cached) / each for name, each in seconds.items()}
    record(f"DataLoader with 2 workers, {case}", rates, "samples/s", "list")
    rate = len(cached) / seconds["shared"]
    return f"{rate:,.0f} samples/s, {seconds['list'] / seconds['shared']:.2f}x"


def overhead(backend: str, size: int, rounds: int) -> tuple[float, float]:
    """Return microseconds per sample of the bare backend with the codec, and of the engine."""
    samples = [bytes(size) for _ in range(16 * BATCH)]
    with kappacore.CachedDataset(samples, backend) as dataset:
        cache: Any = dataset._cache
        batches = [list(range(start, start + BATCH)) for start in range(0, len(samples), BATCH)]
        for batch in batches:
            dataset.__getitems__(batch)
        bare = cache._open().client.backend
        decode, name = cache.codec.decode, cache._open().store.digest_name

        def by_hand() -> None:
            for batch in batches:
                for key, buffer in zip(batch, bare.get_many(batch), strict=True):
                    decode(buffer, key, name, verify=False)

        def by_engine() -> None:
            for batch in batches:
                dataset.__getitems__(batch)

        best = best_of({"bare": by_hand, "engine": by_engine}, 5 * rounds)
    return best["bare"] / len(samples) * 1e6, best["engine"] / len(samples) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)

    print(f"Per hit, batches of {BATCH}: backend and codec by hand, the engine, and the difference")
    for backend in ("shared", "memory"):
        for size in (1_000, 100_000):
            bare, engine = overhead(backend, size, arguments.rounds)
            case = f"A hit of {backend} in batches of {BATCH}, {size:,} bytes"
            record(case, {"backend and codec": bare, "engine": engine}, "µs", "backend and codec")
            print(f"  {backend:8}{size:8} B{bare:9.2f} µs{engine:9.2f} µs{engine - bare:+8.2f} µs")

    print("DataLoader with 2 workers, hot cache `shared`; ratios against an in-process list")
    photos = [photo(generator) for _ in range(arguments.samples)]
    size = sum(map(len, photos)) // len(photos)
    with kappacore.CachedDataset(photos, "shared", transform=decode_and_crop) as cached:
        cached.prefill()
        case = f"JPEGs of {size // 1000} KB, decoded and cropped"
        found = compare(case, Listed(photos, decode_and_crop), cached, arguments.rounds)
    print(f"  {case}: {found}")
    shape = (256, 256, 3)
    tensors = [
        torch.from_numpy(generator.integers(0, 256, shape, dtype=np.uint8))
        for _ in range(arguments.samples)
    ]
    with kappacore.CachedDataset(tensors, "shared", copy="unsafe") as cached:
        cached.prefill()
        case = "256x256x3 uint8 tensors, copy='unsafe'"
        found = compare(case, Listed(tensors), cached, arguments.rounds)
    print(f"  {case}: {found}")

    print("One epoch over a source that waits 2 ms a sample, 2 workers; ratio against no cache")
    source = Waiting(photos)
    with kappacore.CachedDataset(source, "shared") as cached:
        cached.prefill(threads=16)
        none, hot = rate_once(source), rate_once(cached)
    rates = {"no cache": none, "shared": hot}
    record("One epoch over a source that waits 2 ms a sample", rates, "samples/s", "no cache")
    print(f"  {hot:,.0f} samples/s, {hot / none:.1f}x")


def rate_once(dataset: Any) -> float:
    """Return samples per second of one epoch, its workers' start included."""
    started = time.perf_counter()
    total = sum(len(batch) for batch in DataLoader(dataset, BATCH, num_workers=2, collate_fn=list))
    return total / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
