"""Batches from a hot cache through `kappacore.Loader`, beside others, in one run.

The DataLoaders read the same cache. The limit is `index_select` from one big tensor into one
buffer. Peers that are not installed are left out. Where there is a GPU, batches go there; `--small`
tries it out. `--train` trains a ResNet-50 on a GPU, and `--processes 4` lets as many processes read
one cache.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import kappacore
from benchmarks._report import record
from benchmarks._timing import best_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WORKERS = [2, *([14] if (os.cpu_count() or 1) >= 14 else [])]


class Images(kappacore.KDDataset):
    """Random images, labels, and boxes of different numbers."""

    def __init__(self, length: int, size: int) -> None:
        generator = torch.Generator().manual_seed(size)
        shape = (length, size, size, 3)
        self.data = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).numpy()

    def __reduce__(self) -> Any:  # other processes draw the same
        return type(self), (len(self), self.data.shape[1])

    def __len__(self) -> int:
        return len(self.data)

    def getitem_x(self, idx: int) -> np.ndarray[Any, Any]:
        image: np.ndarray[Any, Any] = self.data[idx]
        return image

    def getitem_boxes(self, idx: int) -> np.ndarray[Any, Any]:
        return np.full((1 + idx % 20, 4), idx, np.float32)

    def getitem_mixed(self, idx: int) -> np.ndarray[Any, Any]:
        """Return an image that is up to a quarter less high."""
        size = self.data.shape[1]
        image: np.ndarray[Any, Any] = self.data[idx, : size - idx % 8 * size // 32]
        return image

    def getall_class(self) -> np.ndarray[Any, Any]:
        return np.arange(len(self))


def drain(loader: Iterable[Any], device: str) -> None:
    for batch in loader:
        if device != "cpu" and torch.is_tensor(batch) and not batch.is_cuda:
            batch.to(device, non_blocking=True)
    if device != "cpu":
        torch.cuda.synchronize()


def through_dataloader(
    dataset: Dataset[Any], batch_size: int, workers: int, device: str, collate: Any = None
) -> Callable[[], None]:
    """Return an epoch of a DataLoader that keeps its workers, which have started."""
    gc.collect()  # a forked worker that finds another loader's workers complains of them
    loader = DataLoader(
        dataset,
        batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device != "cpu",
        collate_fn=collate,
    )
    epoch = partial(drain, loader, device)
    epoch()
    return epoch


def stocaching(source: Images) -> Dataset[Any] | None:
    """Return the source behind stocaching's cache; None if it is not installed."""
    try:
        from benchmarks._shared_peers import Stocaching

        class Peer(Stocaching):
            def __init__(self) -> None:
                from stocaching import SharedCache

                self.source = source  # type: ignore[assignment]
                shape = source.data.shape
                self.cache = SharedCache(
                    size_limit_gib=64, dataset_len=shape[0], data_dims=shape[1:], dtype=torch.uint8
                )

            def __getitem__(self, idx: int) -> torch.Tensor:
                sample: torch.Tensor | None = self.cache.get_slot(idx)
                if sample is None:
                    sample = torch.from_numpy(source.data[idx])
                    self.cache.set_slot(idx, sample)
                return sample

        return Peer()
    except ImportError as error:
        print(f"stocaching is left out: {error}")
        return None


def spdl(dataset: Any, batch_size: int, device: str) -> Callable[[], None] | None:
    """Return an epoch of SPDL's threads over a dataset; None if it is not installed."""
    try:
        from spdl.pipeline import PipelineBuilder
    except ImportError as error:
        print(f"SPDL is left out: {error}")
        return None
    threads = max(WORKERS)

    def load(indices: list[int]) -> torch.Tensor:
        batch = torch.from_numpy(np.stack(dataset[indices]))
        return batch if device == "cpu" else batch.pin_memory()

    def epoch() -> None:
        order = torch.randperm(len(dataset)).tolist()
        builder = PipelineBuilder().add_source(order).aggregate(batch_size)
        pipeline = builder.pipe(load, concurrency=threads).add_sink(2).build(num_threads=threads)
        with pipeline.auto_stop():
            drain(pipeline.get_iterator(timeout=60), device)

    return epoch


def limit(source: Images, batch_size: int, device: str) -> Callable[[], None]:
    """Return an epoch of ``index_select`` from one tensor, copied to the device."""
    whole = torch.from_numpy(source.data)
    shape, pinned = (batch_size, *whole.shape[1:]), device != "cpu"
    buffer = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)

    def epoch() -> None:
        order = torch.randperm(len(whole))
        for first in range(0, len(whole), batch_size):
            rows = order[first : first + batch_size]
            out = buffer[: len(rows)]
            torch.index_select(whole, 0, rows, out=out)
            if pinned:
                out.to(device)
        if pinned:
            torch.cuda.synchronize()

    return epoch


def report(title: str, samples: int, seconds: dict[str, float]) -> None:
    """Print and record samples/s of each; ratios against the best DataLoader, and of the limit."""
    print(f"\n{title}")
    loaders = [value for name, value in seconds.items() if name.startswith("DataLoader")]
    best = next(name for name, value in seconds.items() if value == min(loaders))
    rates = {name: samples / value for name, value in seconds.items()}
    record(title, rates, "samples/s", best)
    for name, value in seconds.items():
        ratio = f"{min(loaders) / value:8.2f}x the best DataLoader"
        of_limit = f"{seconds['limit'] / value:8.2f} of the limit" if "limit" in seconds else ""
        print(f"  {name:34}{samples / value:14,.0f} samples/s{ratio}{of_limit}")


def images(ds: Any, source: Images, batch_size: int, rounds: int, device: str, peers: bool) -> None:
    mode = kappacore.ModeWrapper(ds, "x")
    with kappacore.Loader(ds, "x", batch_size, shuffle=True, device=device) as loader:
        epochs: dict[str, Callable[[], None]] = {"Loader": partial(drain, loader, device)}
        for _ in range(2):  # the second one shows the Loader how long a batch takes
            epochs["Loader"]()
        for workers in WORKERS:
            name = f"DataLoader, {workers} workers"
            epochs[name] = through_dataloader(mode, batch_size, workers, device)
        if peers:
            peer = stocaching(source)
            for workers in WORKERS if peer is not None else ():
                name = f"DataLoader, {workers} workers, stocaching"
                epochs[name] = through_dataloader(peer, batch_size, workers, device)  # type: ignore[arg-type]
            threads = spdl(mode, batch_size, device)
            if threads is not None:
                epochs["SPDL, threads"] = threads
        epochs["limit"] = limit(source, batch_size, device)
        size = source.data.shape[1]
        seconds = best_of(epochs, rounds)
        title = f"{len(ds)} images of {size}x{size}x3 uint8 in batches of {batch_size}, {device}"
        report(title, len(ds), seconds)
        each = {name: 1e6 * seconds[name] / len(loader) for name in ("Loader", "limit")}
        print(f"  a batch: {each['Loader']:.0f} µs; of the limit {each['limit']:.0f} µs")
        print("  " + "\n  ".join(loader.explain().splitlines()))


def ragged(ds: Any, item: str, what: str, batch_size: int, rounds: int, device: str) -> None:
    """Values of different lengths, one after another in one tensor."""

    def jagged(samples: list[np.ndarray[Any, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = torch.tensor([len(sample) for sample in samples])
        return torch.from_numpy(np.concatenate(samples)), lengths.cumsum(0)

    mode = kappacore.ModeWrapper(ds, item)
    items = {item: {"ragged": "jagged"}}
    with kappacore.Loader(ds, item, batch_size, shuffle=True, device=device, items=items) as loader:
        epochs: dict[str, Callable[[], None]] = {"Loader": partial(drain, loader, device)}
        for workers in WORKERS:
            name = f"DataLoader, {workers} workers"
            epochs[name] = through_dataloader(mode, batch_size, workers, device, jagged)
        title = f"{len(ds)} {what} in batches of {batch_size}, {device}"
        report(title, len(ds), best_of(epochs, rounds))


def overhead(ds: Any, rounds: int, device: str) -> None:
    """Print the time of a batch of one small value, read ahead or not."""
    for ahead in (0, 2):
        with kappacore.Loader(ds, "x", 1, device=device, prefetch=ahead) as loader:
            seconds = best_of({"": partial(drain, loader, device)}, rounds)[""]
        case = f"Overhead of a batch of one small value, {device}"
        record(case, {f"prefetch={ahead}": 1e6 * seconds / len(ds)}, "µs")
        print(f"  per-batch overhead, prefetch={ahead}: {1e6 * seconds / len(ds):.0f} µs")


def filling(rounds: int, delay: float) -> None:
    """Compare an epoch that fills a cache with the same through torch's DataLoader."""

    class Slow(Images):
        def getitem_x(self, idx: int) -> np.ndarray[Any, Any]:
            time.sleep(delay)
            return super().getitem_x(idx)

    source = Slow(512, 64)

    def loader(ds: Any) -> Iterable[Any]:
        return kappacore.Loader(ds, "x", 32, workers=2)

    def dataloader(ds: Any) -> Iterable[Any]:
        return DataLoader(kappacore.ModeWrapper(ds, "x"), 32, num_workers=2)

    fill = {"Loader, 2 workers": loader, "DataLoader, 2 workers": dataloader}
    seconds = dict.fromkeys(fill, float("inf"))
    for number in range(rounds):
        for name, make in fill.items():
            gc.collect()
            with kappacore.CacheWrapper(source, "shared", namespace=f"fill-{number}") as ds:
                epoch = make(ds)
                started = time.perf_counter()
                drain(epoch, "cpu")
                seconds[name] = min(seconds[name], time.perf_counter() - started)
    report(f"An epoch that fills a cache: 512 images, {delay * 1e3:.0f} ms each", 512, seconds)


def jpegs(rounds: int, number: int) -> None:
    """JPEGs decoded by the GPU, beside torchvision's own loader."""
    try:
        from torchvision.datasets import ImageFolder
        from torchvision.io import decode_image
    except ImportError as error:
        print(f"\ntorchvision is left out: {error}")
        return
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a").mkdir()
        for idx in range(number):
            coarse = np.random.default_rng(idx).integers(0, 256, (20, 25, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
            image.save(Path(folder, "a", f"{idx:05}.jpg"), quality=90)
        ds = kappacore.load_dataset("imagefolder", root=folder)
        ds = kappacore.wrap(ds, "cache", items="x", backend="shared")
        ds.prefill(progress=False)
        items = {"x": {"decode": "device", "crop": (224, 224)}}

        def cropped(path: str) -> torch.Tensor:
            image: torch.Tensor = decode_image(path)
            return image[:, 75:299, 138:362]

        peer = ImageFolder(folder, loader=cropped)
        with kappacore.Loader(ds, "x", 256, shuffle=True, device="cuda", items=items) as loader:
            epochs: dict[str, Callable[[], None]] = {
                "Loader, decode='device'": partial(drain, loader, "cuda")
            }
            for workers in WORKERS:
                name = f"DataLoader, {workers} workers, torchvision"
                epochs[name] = through_dataloader(peer, 256, workers, "cuda")
            title = f"{number} JPEGs of 500x375, cropped to 224x224"
            report(title, number, best_of(epochs, rounds))
        ds.close()


def training(ds: Any, steps: int) -> None:
    """Train a ResNet-50 in bf16 from the decoded cache, beside one batch again and again."""
    try:
        from torchvision.models import resnet50
    except ImportError as error:
        print(f"\ntraining is left out: {error}")
        return
    torch.backends.cudnn.benchmark = True
    model = resnet50().to("cuda", memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    items = {
        "x": {
            "crop": (224, 224),
            "dtype": torch.bfloat16,
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "layout": "channels_last",
        }
    }

    def step(x: torch.Tensor, label: torch.Tensor) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(x), label % 1000)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def rate(batches: Iterable[Any]) -> tuple[float, float]:
        """Return images/s, and how many cores were busy."""
        torch.cuda.synchronize()
        started, busy = time.perf_counter(), time.process_time()
        number = 0
        for x, label in batches:
            step(x, label)
            number += len(x)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        return number / seconds, (time.process_time() - busy) / seconds

    with kappacore.Loader(
        ds, "x class", 256, shuffle=True, drop_last=True, device="cuda", items=items
    ) as loader:
        one = next(iter(loader))
        rate([one] * 10)
        rate(loader)  # looks at every value once, and lets cuDNN choose

        def epochs() -> Iterable[Any]:
            for _ in range(-(-steps // len(loader))):
                yield from loader

        title = "ResNet-50 in bf16, 224x224, from 256x256 in batches of 256"
        print(f"\n{title}")
        best = (0.0, 0.0)
        for _ in range(2):
            best = max(best, rate([one] * steps))
        found = max(rate(epochs()), rate(epochs()))
        rates = {"one batch again and again": best[0], "Loader": found[0]}
        record(title, rates, "images/s", "one batch again and again")
        print(f"  one batch again and again {best[0]:10,.0f} images/s on {best[1]:.1f} cores")
        print(f"  Loader                    {found[0]:10,.0f} images/s on {found[1]:.1f} cores")
        print(f"  {found[0] / best[0]:.2f} of one batch again and again")


def read_in_process(ds: Any, rounds: int, device: str, barrier: Any, seconds: Any) -> None:
    torch.set_num_threads(1)
    with kappacore.Loader(ds, "x", 256, shuffle=True, device=device) as loader:
        drain(loader, device)
        barrier.wait()
        started = time.perf_counter()
        for _ in range(rounds):
            drain(loader, device)
        seconds.put(time.perf_counter() - started)
        barrier.wait()  # nobody ends while others are timed


def in_processes(ds: Any, number: int, rounds: int, device: str) -> None:
    """Read one cache in several processes at once."""
    context = multiprocessing.get_context("spawn")
    barrier, seconds = context.Barrier(number), context.SimpleQueue()
    arguments = (ds, rounds, device, barrier, seconds)
    processes = [context.Process(target=read_in_process, args=arguments) for _ in range(number)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a process failed; see above")
    slowest = max(seconds.get() for _ in processes)
    together = number * rounds * len(ds) / slowest
    case = f"{number} processes, one cache, {device}"
    record(case, {"Loader": together}, "samples/s")
    print(f"\n{case}: {together:,.0f} samples/s together")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="try it out: few samples")
    parser.add_argument("--brief", action="store_true", help="only the images")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--train", action="store_true", help="train a ResNet-50 (a GPU only)")
    parser.add_argument("--processes", type=int, default=0, help="read in as many processes")
    arguments = parser.parse_args()
    rounds, device = (2 if arguments.small else arguments.rounds), arguments.device
    small, many = arguments.small, device != "cpu"
    if arguments.train and not many:
        parser.error("--train needs a GPU: device='cpu'")
    torch.set_num_threads(1)
    counts = {256: 8192 if many else 2048, 32: 65_536 if many else 16_384}

    def cached(size: int, items: str) -> tuple[Images, Any]:
        source = Images(512 if small else counts[size], size)
        ds = kappacore.CacheWrapper(
            source, "shared", items=items, namespace=f"{size}-{items.replace(' ', '-')}"
        )
        ds.prefill(progress=False)
        return source, ds

    if arguments.train or arguments.processes:
        _, ds = cached(256, "x")
        with ds:
            if arguments.processes:
                in_processes(ds, arguments.processes, rounds, device)
            if arguments.train:
                training(ds, 10 if small else 100)
        return
    source, ds = cached(256, "x")
    with ds:
        images(ds, source, 256, rounds, device, peers=True)
    del source, ds
    if not arguments.brief:
        _, ds = cached(256, "mixed")
        with ds:
            ragged(ds, "mixed", "images of 8 heights, 256 at most,", 256, rounds, device)
        del ds
    source, ds = cached(32, "x boxes")
    with ds:
        images(ds, source, 512, rounds, device, peers=True)
        if arguments.brief:
            return
        images(ds, source, 256, rounds, device, peers=False)
        part = kappacore.KDSubset(ds, range(min(len(ds), 16_384)))
        ragged(part, "boxes", "samples of 1 to 20 boxes", 512, rounds, device)
        overhead(kappacore.KDSubset(ds, range(500)), rounds, device)
    filling(1 if small else 3, 0.001)
    if many:
        jpegs(rounds, 256 if small else 2048)


if __name__ == "__main__":
    main()
