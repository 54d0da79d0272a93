"""Three epochs on slow storage, along several roads: no cache, caches, and a Loader.

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
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

import kappacore

HERE = Path(__file__).parent
SIZE = 224  # pixels of a crop
WHOLE = 256  # pixels of a decoded image in the cache
BATCH = 32
WORKERS = 2


_ROADS = f"""
shared raw      images as they are stored, decoded in each epoch
second process  another program, which finds the raw images of the first
shared decoded  images of {WHOLE}x{WHOLE}; a DataLoader with {WORKERS} workers crops them
Loader          the same decoded images, in batches and without workers"""


@dataclass
class Row:
    """One epoch along one road."""

    road: str
    epoch: int
    source_reads: int
    hits: int
    seconds: float
    images: int


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


def resize(image: Any) -> Any:
    return image.resize((WHOLE, WHOLE))


def random_crop(image: Any) -> torch.Tensor:
    """Cut a random square; return a (3, SIZE, SIZE) uint8 tensor."""
    left, top = torch.randint(WHOLE - SIZE + 1, (2,)).tolist()
    crop = image.crop((left, top, left + SIZE, top + SIZE))
    return torch.from_numpy(np.array(crop)).permute(2, 0, 1)


def random_crops(batch: Any, draw: Any) -> Any:
    """Cut a random square out of each image of an (N, WHOLE, WHOLE, 3) batch."""
    corners = draw.randint(0, WHOLE - SIZE + 1, 2).tolist()
    crops = [
        image[top : top + SIZE, left : left + SIZE]
        for image, (top, left) in zip(batch["x"], corners, strict=True)
    ]
    return batch.replace(x=torch.stack(crops).permute(0, 3, 1, 2))


class Cropped(Dataset[Any]):
    """Random crops of (image, label) samples."""

    def __init__(self, samples: Any):
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, idx: int) -> tuple[torch.Tensor, int]:
        image, label = self.samples[idx]
        return random_crop(image), label


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


def drive(road: str, loader: Any, dataset: Any, epochs: int, counter: str) -> list[Row]:
    """Run epochs over ``loader``; return one row each.

    Args:
        road: Its name.
        loader: Gives batches of images and labels.
        dataset: The cache to ask for hits; any other dataset has none.
        epochs: How many.
        counter: The file in which the storage counts its reads.
    """
    rows = []
    for epoch in range(1, epochs + 1):
        reads, hits, images = reads_of(counter), hits_of(dataset), 0
        started = time.perf_counter()
        with tqdm(total=len(dataset), desc=f"{road}, epoch {epoch}", unit="image",
                  disable=not sys.stderr.isatty(), leave=False) as bar:  # fmt: skip
            for batch in loader:
                images += len(batch[0])
                bar.update(len(batch[0]))
        seconds = time.perf_counter() - started
        reads = reads_of(counter) - reads
        hits = hits_of(dataset) - hits
        rows.append(Row(road, epoch, reads, hits, seconds, images))
    return rows


def by_workers(samples: Any) -> DataLoader[Any]:
    return DataLoader(samples, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)


def resized(dataset: kappacore.KDDataset) -> Any:
    return kappacore.wrap(dataset, "transform", item="x", transform=resize)


def through_dataloader(road: str, dataset: Any, epochs: int, counter: str) -> list[Row]:
    """Decode and resize in the workers of a DataLoader, after the cache if there is one."""
    samples = Cropped(kappacore.ModeWrapper(resized(dataset), "x class"))
    return drive(road, by_workers(samples), dataset, epochs, counter)


def through_decoded(dataset: Any, epochs: int, counter: str) -> list[Row]:
    """Read a cache of decoded images by the workers of a DataLoader."""
    samples = Cropped(kappacore.ModeWrapper(dataset, "x class"))
    return drive("shared decoded", by_workers(samples), dataset, epochs, counter)


def through_loader(dataset: Any, epochs: int, counter: str) -> list[Row]:
    """Gather whole batches from a cache of decoded images, without workers."""
    with kappacore.Loader(
        dataset, "x class", BATCH, shuffle=True, transform=random_crops
    ) as loader:
        return drive("Loader", loader, dataset, epochs, counter)


def through_kappadata(dataset: Any, epochs: int, counter: str) -> list[Row]:
    """Keep decoded samples in the cache of KappaData 0.0.8, in the process of a manager."""
    try:
        from kappadata import SharedDictDataset
    except ImportError as error:
        print(f"KappaData is left out: {error}.")
        return []
    peer = SharedDictDataset(kappacore.ModeWrapper(resized(dataset), "x class"))
    rows = drive("KappaData", by_workers(Cropped(peer)), dataset, epochs, counter)
    for row in rows:
        row.hits = row.images - row.source_reads
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


def cached(dataset: kappacore.KDDataset, **options: Any) -> Any:
    """Put the shared-memory cache above a dataset, by name."""
    return kappacore.wrap(dataset, "cache", items="x", backend="shared", **options)


def print_table(rows: list[Row]) -> None:
    print(f"\n{'':18}{'epoch':>6}{'source reads':>14}{'hits':>8}{'images/s':>11}")
    for row in rows:
        print(
            f"{row.road:18}{row.epoch:6}{row.source_reads:14}{row.hits:8}"
            f"{row.images / row.seconds:11,.0f}"
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
    """Draw the seconds of each epoch, one colour for each road."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    grey = "#7e7e7e"  # as far from white as from black
    colours = {
        "without cache": "#9a9a9a",
        "KappaData": "#d29922",
        "shared raw": "#2f81f7",
        "second process": "#a371f7",
        "shared decoded": "#1b9e9e",
        "Loader": "#2da44e",
    }
    parts = ("text.color", "xtick.color", "ytick.color", "axes.edgecolor", "axes.labelcolor")
    style: dict[Any, Any] = {"svg.hashsalt": "kappacore", "svg.fonttype": "none", "font.size": 9}
    with mpl.rc_context(style | dict.fromkeys(parts, grey)):
        figure, axes = plt.subplots(figsize=(7, 0.9 + 0.24 * len(rows)), layout="constrained")
        heights, height = [], 0.0
        for before, row in zip([None, *rows], rows, strict=False):
            height += 1.0 if before is None or before.road == row.road else 1.6
            heights.append(height)
        bars = axes.barh(
            heights, [row.seconds for row in rows], 0.8, color=[colours[row.road] for row in rows]
        )
        axes.bar_label(bars, [f" {row.seconds:.2f} s" for row in rows], fontsize=8)
        axes.set_yticks(heights, [f"{row.road}, epoch {row.epoch}" for row in rows], fontsize=8)
        for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_color(colours[row.road])
        axes.invert_yaxis()
        axes.margins(x=0.1, y=0.02)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("seconds per epoch; less is better")
        title = f"{rows[0].images} images, {latency:g} ms per read, {WORKERS} workers, random crops"
        axes.set_title(title, fontsize=10)
        vector = path.suffix == ".svg"
        metadata = {"Date": None, "Creator": None} if vector else None
        figure.savefig(path, dpi=150, transparent=vector, metadata=metadata)
        plt.close(figure)
    print(f"Plot: {path}")


def print_next() -> None:
    """Name three commands to go on with."""
    commands = Path(sys.executable).parent
    print(
        "\nThree commands to try next:\n"
        "  make demo ROOT=/path/to/imagefolder      # the same with your own images\n"
        f"  {commands}/kappacore plugins     # what is installed\n"
        "  make bench     # other caches and loaders beside it; some minutes"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="an image folder of your own (default: one is made)")
    parser.add_argument("--images", type=int, default=400, help="how many images to make")
    parser.add_argument("--limit", type=int, default=2000, help="at most so many; 0: all")
    parser.add_argument("--latency", type=float, default=5.0, help="wait per image read, in ms")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--no-plot", action="store_true", help="draw nothing")
    parser.add_argument("--plot", type=Path, default=HERE / "epochs.png", help="a PNG or an SVG")
    parser.add_argument("--second", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--counter", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as in workers: on two cores, more threads wait for one another

    if arguments.second:
        with contextlib.closing(cached(source(arguments))) as dataset:
            rows = through_dataloader("second process", dataset, 1, arguments.counter)
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
            "little: their decoding remains."
        )
        epochs, counter = arguments.epochs, arguments.counter
        rows = through_dataloader("without cache", dataset, epochs, counter)
        rows += through_kappadata(dataset, epochs, counter)
        with cached(dataset) as above:
            rows += through_dataloader("shared raw", above, epochs, counter)
            rows += second_process(arguments)
            # What is private needs no proof of whose it is: such reads would count as well.
            options = {"namespace": kappacore.PRIVATE, "form": "decoded", "check": False}
            with cached(resized(dataset), **options) as decoded:
                rows += through_decoded(decoded, epochs, counter)
                rows += through_loader(decoded, epochs, counter)
                print_table(rows)
                print(_ROADS)
                print(f"\nThe decoded cache took {decoded.stats().bytes_stored / 2**20:.1f} MiB.")
            print_labels(above, arguments.counter)
            print(f"The raw cache: {above.stats()}.")
    if not arguments.no_plot:
        plot(rows, arguments.latency, arguments.plot)
    print("Images made for the demo and the caches are removed.")
    print_next()


if __name__ == "__main__":
    main()
