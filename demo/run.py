"""Three epochs on slow storage without a cache and with one; then a second process.

Run it with `make demo`, or `make demo ROOT=/path/to/imagefolder`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

import kappacore

HERE = Path(__file__).parent


@dataclass
class Row:
    """One epoch."""

    run: str
    epoch: int
    source_reads: int
    hits: int
    images_per_second: float


class SlowStorage(kappacore.KDWrapper):
    """Makes every read of an image wait as network storage does, and counts it in a file."""

    fingerprint_is_content = True  # it identifies the files, so no sample is read to prove it

    def __init__(self, dataset: kappacore.KDDataset, latency: float, counter: str):
        super().__init__(dataset)
        self.latency = latency
        self.counter = counter

    def getraw_x(self, idx: int) -> Any:
        time.sleep(self.latency)
        with Path(self.counter).open("ab", buffering=0) as file:
            file.write(b".")
        return self.dataset.getraw_x(idx)

    def decode_x(self, raw: Any, ctx: dict[str, Any] | None = None) -> Any:
        return self.dataset.decode_x(raw, ctx)

    def fingerprint(self, item: str, raw: bool = False) -> str | None:
        return self.dataset.fingerprint(item, raw)  # slow, but the same files


def random_crop(image: Any, size: int = 224) -> torch.Tensor:
    """Cut a random square of ``size`` pixels; return a (3, size, size) uint8 tensor."""
    image = image.resize((max(size, image.width), max(size, image.height)))
    left = int(torch.randint(image.width - size + 1, ()))
    top = int(torch.randint(image.height - size + 1, ()))
    crop = image.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(crop)).permute(2, 0, 1)


def make_images(root: Path, number: int) -> None:
    """Lay out a small image folder, cut from the two photos that scikit-learn ships."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = load_sample_images()
    generator = np.random.default_rng(0)
    for name, pixels in zip(("china", "flower"), photos.images, strict=True):
        folder = root / name
        folder.mkdir(parents=True)
        photo = Image.fromarray(pixels)
        for position in range(number // 2):
            left = int(generator.integers(photo.width - 320))
            top = int(generator.integers(photo.height - 320))
            cut = photo.crop((left, top, left + 320, top + 320))
            cut.save(folder / f"{position:05d}.jpg", quality=90)


def source(arguments: argparse.Namespace) -> kappacore.KDDataset:
    """Return the slow image folder."""
    folder = kappacore.load_dataset("imagefolder", root=arguments.root)
    slow = SlowStorage(folder, arguments.latency / 1000, arguments.counter)
    if 0 < arguments.limit < len(slow):
        indices = np.linspace(0, len(slow) - 1, arguments.limit).astype(int)
        return kappacore.KDSubset(slow, indices)
    return slow


def run(name: str, dataset: kappacore.KDDataset, epochs: int, counter: str) -> list[Row]:
    """Run epochs over ``dataset`` with random crops; return one row each."""
    cropped = kappacore.wrap(dataset, "transform", item="x", transform=random_crop, is_random=True)
    samples = kappacore.ModeWrapper(cropped, "x class")
    loader = DataLoader(samples, batch_size=32, shuffle=True, num_workers=2)
    rows = []
    for epoch in range(1, epochs + 1):
        reads, hits = reads_of(counter), hits_of(dataset)
        started = time.perf_counter()
        with tqdm(total=len(samples), desc=f"{name}, epoch {epoch}", unit="image",
                  disable=not sys.stderr.isatty(), leave=False) as bar:  # fmt: skip
            for images, _ in loader:
                bar.update(len(images))
        seconds = time.perf_counter() - started
        rows.append(
            Row(
                run=name,
                epoch=epoch,
                source_reads=reads_of(counter) - reads,
                hits=hits_of(dataset) - hits,
                images_per_second=len(samples) / seconds,
            )
        )
    return rows


def reads_of(counter: str) -> int:
    return Path(counter).stat().st_size


def hits_of(dataset: Any) -> int:
    return dataset.stats().hits if isinstance(dataset, kappacore.CacheWrapper) else 0


def second_process(arguments: argparse.Namespace) -> list[Row]:
    """Run this script once more while the cache is in use here; it shares nothing else with us."""
    command = [sys.executable, __file__, "--second", "--root", str(arguments.root)]
    for option in ("latency", "limit", "counter"):
        command += [f"--{option}", str(getattr(arguments, option))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return [Row(**row) for row in json.loads(done.stdout)]


def cached(dataset: kappacore.KDDataset) -> Any:
    """Put the shared-memory cache above a dataset, by name."""
    return kappacore.wrap(dataset, "cache", items="x", backend="shared")


def print_table(rows: list[Row]) -> None:
    print(f"\n{'':18}{'epoch':>6}{'source reads':>14}{'hits':>8}{'images/s':>11}")
    for row in rows:
        print(
            f"{row.run:18}{row.epoch:6}{row.source_reads:14}{row.hits:8}"
            f"{row.images_per_second:11,.0f}"
        )


def print_labels(dataset: kappacore.KDDataset, counter: str) -> None:
    reads = reads_of(counter)
    started = time.perf_counter()
    labels = list(kappacore.ModeWrapper(dataset, "class"))
    seconds = time.perf_counter() - started
    print(
        f"\nAll {len(labels)} labels took {seconds * 1000:.1f} ms; "
        f"{reads_of(counter) - reads} images were read for it."
    )


def plot(rows: list[Row], latency: float, path: Path) -> None:
    """Draw images per second per epoch into a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    bars = axes.bar(
        range(len(rows)),
        [row.images_per_second for row in rows],
        color=[{"without cache": "#999999"}.get(row.run, "#1f77b4") for row in rows],
    )
    axes.bar_label(bars, fmt="%.0f")
    axes.set_xticks(range(len(rows)), [f"{row.run}\nepoch {row.epoch}" for row in rows], fontsize=7)
    axes.set_ylabel("images/s")
    axes.set_title(f"Source that waits {latency:g} ms per image, 2 workers, random crops")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    print(f"Plot: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="an image folder of your own (default: one is made)")
    parser.add_argument("--images", type=int, default=600, help="how many images to make")
    parser.add_argument("--limit", type=int, default=2000, help="at most so many; 0: all")
    parser.add_argument("--latency", type=float, default=5.0, help="wait per image read, in ms")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--no-plot", action="store_true", help="draw no PNG")
    parser.add_argument("--second", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--counter", help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    if arguments.second:
        with contextlib.closing(cached(source(arguments))) as dataset:
            rows = run("second process", dataset, 1, arguments.counter)
        print(json.dumps([asdict(row) for row in rows]))
        return

    with tempfile.TemporaryDirectory(prefix="kappacore-demo-") as folder:
        if arguments.root is None:
            arguments.root = str(Path(folder, "images"))
            print(f"Making {arguments.images} images from scikit-learn's two photos …")
            make_images(Path(arguments.root), arguments.images)
        arguments.counter = str(Path(folder, "reads"))
        Path(arguments.counter).touch()
        dataset = source(arguments)
        print(
            f"{len(dataset)} images in {len(dataset.classes)} classes. Every read of an image "
            f"waits {arguments.latency:g} ms, to act like network\nstorage (--latency). On a local "
            "disk whose files are in the page cache already, keeping compressed\nimages gains "
            "little: what remains is their decoding."
        )
        rows = run("without cache", dataset, arguments.epochs, arguments.counter)
        with cached(dataset) as above:
            rows += run("shared cache", above, arguments.epochs, arguments.counter)
            rows += second_process(arguments)
            print_table(rows)
            print_labels(above, arguments.counter)
            print(f"Cache: {above.stats()}.")
    if not arguments.no_plot:
        plot(rows, arguments.latency, HERE / "images_per_second.png")
    print("Images made for the demo and the cache are removed.")


if __name__ == "__main__":
    main()
