"""kappa_imagefolder beside torchvision's way: scanning, opening by index, decoding, whole epochs.

Each ratio is against the first line of its table, measured in the same run; best of the rounds.
The photos are the two that scikit-learn ships, cut and put together (`--photos` takes a folder of
your own). `make bench` installs what this needs; run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

import kappacore
from kappa_imagefolder import ImageFolder
from kappa_imagefolder.decoding import Decoder
from kappa_imagefolder.jpeg import simplejpeg_version
from kappa_imagefolder.scan import IMG_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE = 256
CROP = 224


def best_of(rounds: int, functions: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the shortest time of each function in seconds, their rounds taking turns."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


# ---- scanning and opening


def torchvisions_scan(root: str) -> list[tuple[str, int]]:
    """List an image folder by torchvision's algorithm: os.walk, everything sorted."""
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    join = os.path.join
    found = []
    for label, name in enumerate(classes):
        for folder, _, files in sorted(os.walk(join(root, name), followlinks=True)):
            for file in sorted(files):
                if file.lower().endswith(IMG_EXTENSIONS):
                    found.append((join(folder, file), label))  # noqa: PERF401
    return found


def make_files(root: Path, files: int, folders: int) -> None:
    """Lay out empty files with names as ImageNet has them."""
    for number in range(folders):
        name = f"n{number:08}"
        (root / name).mkdir(parents=True)
        folder = os.open(root / name, os.O_RDONLY)
        for file in range(files * number // folders, files * (number + 1) // folders):
            os.close(os.open(f"{name}_{file:08}.JPEG", os.O_CREAT, dir_fd=folder))
        os.close(folder)


@contextmanager
def waiting(seconds: float) -> Iterator[None]:
    """Make every read of a directory wait, as network storage does."""
    usual: Any = os.scandir

    def scandir(path: Any = ".") -> Any:
        time.sleep(seconds)
        return usual(path)

    os.scandir = scandir
    try:
        yield
    finally:
        os.scandir = usual


def scanning(folder: Path, files: int, folders: int, rounds: int) -> None:
    trees = {count: folder / str(count) for count in (files // 10, files)}
    for count, tree in trees.items():
        make_files(tree, count, folders)
    time.sleep(2.1)  # an index does not believe the times of folders that changed just now
    root = str(trees[files])
    if ImageFolder(root).samples != torchvisions_scan(root):
        raise RuntimeError("the two scans differ")
    ways: dict[str, Callable[[], Any]] = {
        "torchvision's os.walk, sorted": lambda: torchvisions_scan(root),
        "ImageFolder": lambda: ImageFolder(root),
    }
    print(f"Scanning {files:,} files in {folders:,} folders, in the page cache")
    times = best_of(rounds, ways)
    table(times)
    scan = times["ImageFolder"]
    print("The same, each read of a directory waiting 1 ms")
    with waiting(0.001):
        table(best_of(max(1, rounds - 1), ways))

    print(f"Opening by index; ratios against ImageFolder's scan of {files:,} files")
    opened = {"scan": scan}
    for count, tree in trees.items():
        place = folder / f"{count}.index"
        ImageFolder(tree, index=place)
        for check in ("trust", "dirs"):
            opening = partial(ImageFolder, tree, index=place, index_check=check)
            name = f"index_check={check!r}, {count:,} files"
            opened |= best_of(3 * rounds, {name: opening})
    table(opened)


# ---- decoding


def photos(folder: str | None) -> list[Image.Image]:
    if folder is not None:
        paths = [path for path, _ in ImageFolder(folder).samples[:64]]
        return [Image.open(path).convert("RGB") for path in paths]
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def mosaic(images: list[Image.Image], rows: int = 4) -> Image.Image:
    """Put photos together to one of the size that a camera has."""
    width, height = min(image.size for image in images)
    whole = Image.new("RGB", (rows * width, rows * height))
    for place in range(rows * rows):
        image = images[place % len(images)]
        if place % 3:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        whole.paste(image, (place % rows * width, place // rows * height))
    return whole


def encoded(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def decoding(images: list[Image.Image], rounds: int) -> None:
    decoders = {
        "Pillow → PIL image": Decoder("pil"),
        "Pillow → array": Decoder("numpy", jpeg="pillow"),
        "Pillow → tensor": Decoder("tensor", jpeg="pillow"),
    }
    if simplejpeg_version() is None:
        print("simplejpeg is not installed (`make bench` does it): no times of it.")
    else:
        decoders["simplejpeg → array"] = Decoder("numpy")
        decoders["simplejpeg → tensor"] = Decoder("tensor")
    for name, files in {
        "photos": [encoded(image) for image in images],
        "photos of a camera's size": [encoded(mosaic(images))],
    }.items():
        sizes = sorted({Image.open(io.BytesIO(data)).size for data in files})
        print(
            f"Decoding {name}, {sizes[0][0]}x{sizes[0][1]} pixels, "
            f"{sum(map(len, files)) // len(files) // 1000} KB"
        )
        ways: dict[str, Callable[[], Any]] = {}
        for what, decoder in decoders.items():
            small = Decoder(decoder.kind, size_hint=SIZE, jpeg=decoder.jpeg)
            ways[what] = partial(decode_all, decoder, files)
            if reduces(files[0]):
                ways[f"{what}, size_hint={SIZE}"] = partial(decode_all, small, files)
        times = best_of(5 * rounds, ways)
        table({what: seconds / len(files) for what, seconds in times.items()})


def reduces(data: bytes) -> bool:
    return bool(Decoder("pil", size_hint=SIZE)(data).size != Decoder("pil")(data).size)


def decode_all(decoder: Decoder, files: list[bytes]) -> None:
    for data in files:
        decoder(data)


# ---- epochs


def make_images(root: Path, images: list[Image.Image], number: int) -> None:
    """Cut photos of 500x375 pixels, the size that is usual in ImageNet."""
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    for place in range(number):
        image = images[place % len(images)]
        left = int(generator.integers(max(1, image.width - 500)))
        top = int(generator.integers(max(1, image.height - 375)))
        cut = image.crop((left, top, left + 500, top + 375))
        cut.save(root / "ab"[place % 2] / f"{place:06}.jpg", quality=90)


def resize(image: Image.Image) -> torch.Tensor:
    """Return the image as a tensor of shape (3, 256, 256)."""
    small = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    return torch.from_numpy(small.transpose(2, 0, 1).copy())


def crop(image: torch.Tensor) -> torch.Tensor:
    """Cut a random (3, 224, 224) out of a tensor."""
    top, left = torch.randint(SIZE - CROP + 1, (2,)).tolist()
    return image[:, top : top + CROP, left : left + CROP]


def resize_and_crop(image: Image.Image) -> torch.Tensor:
    return crop(resize(image))


def epochs(folder: Path, images: list[Image.Image], number: int, rounds: int) -> None:
    root = folder / "images"
    make_images(root, images, number)
    size = sum(path.stat().st_size for path in root.rglob("*.jpg")) // number
    print(
        f"Epochs over {number} photos of 500x375 pixels, {size // 1000} KB, resized to "
        f"{SIZE}x{SIZE}; DataLoader with 2 workers, cache `shared`, hot; all in the page cache"
    )
    folders = {
        "the folder": ImageFolder(root),
        "raw cached": ImageFolder(root),
        f"shrunk cached, shrink={SIZE}": ImageFolder(root, shrink=SIZE),
        f"decoded cached, {SIZE}x{SIZE}": ImageFolder(root, transform=resize),
    }
    for cropped in (False, True):
        datasets: dict[str, Any] = {}
        caches = []
        for name, source in folders.items():
            dataset: kappacore.KDDataset = source
            if "cached" in name:
                options: dict[str, Any] = {}
                if "decoded" in name:
                    options = {"namespace": "resized", "form": "decoded"}
                dataset = kappacore.CacheWrapper(source, "shared", copy=False, **options)
                dataset.prefill(progress=False)
                caches.append(dataset)
            last = crop if "decoded" in name else resize_and_crop
            if cropped or "decoded" not in name:
                last = last if cropped else resize
                dataset = kappacore.wrap(dataset, "transform", item="x", transform=last)
            datasets[name] = kappacore.ModeWrapper(dataset, "x class")
        print(f"  with a random crop of {CROP}x{CROP}" if cropped else "  without a crop")
        seconds = seconds_per_epoch(datasets, rounds)
        table({name: each / number for name, each in seconds.items()}, per_second="images")
        for cache in caches:
            cache.close()


def seconds_per_epoch(datasets: dict[str, Any], rounds: int) -> dict[str, float]:
    loaders = {
        name: DataLoader(dataset, batch_size=64, num_workers=2, persistent_workers=True)
        for name, dataset in datasets.items()
    }
    for loader in loaders.values():  # starts the workers
        run(loader)
    return best_of(rounds, {name: partial(run, loader) for name, loader in loaders.items()})


def run(loader: DataLoader[Any]) -> int:
    return sum(len(images) for images, _ in loader)


def quality(images: list[Image.Image]) -> None:
    """Say what `shrink` costs: the photo made small by it, and made small without a JPEG."""
    from kappa_imagefolder.shrinking import Shrink

    data = [encoded(mosaic(images))]
    print("What shrink costs in quality, against resizing alone; camera-sized photos")
    for longest in (256, 512):
        for of in (75, 90, 95):
            small = [Shrink(longest, of)(each) for each in data]
            noise = []
            for each, whole in zip(small, data, strict=True):
                found = Decoder("pil")(each)
                resized = Decoder("pil")(whole).resize(found.size, Image.Resampling.LANCZOS)
                difference = np.asarray(found).astype(float) - np.asarray(resized)
                noise.append(float(np.mean(difference**2)))
            decibel = 10 * np.log10(255**2 / np.mean(noise))
            size = sum(map(len, small)) / len(small)
            print(f"  shrink=({longest}, {of}){size / 1000:10.1f} KB{decibel:8.1f} dB PSNR")


def table(seconds: dict[str, float], per_second: str | None = None) -> None:
    """Print a line for each; ratios are against the first."""
    first = next(iter(seconds.values()))
    for name, each in seconds.items():
        value = f"{each * 1e3:12.3f} ms"
        if per_second is not None:
            value = f"{1 / each:12,.0f} {per_second}/s"
        print(f"  {name:44}{value}{first / each:9.1f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folders", type=int, default=1000)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", metavar="FOLDER", help="an image folder of your own photos")
    parser.add_argument("--only", choices=["scan", "decode", "epoch"], help="one part alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imagefolder-") as name:
        folder = Path(name)
        if arguments.only in (None, "scan"):
            scanning(folder, arguments.files, arguments.folders, arguments.rounds)
        if arguments.only != "scan":
            images = photos(arguments.photos)
        if arguments.only in (None, "decode"):
            decoding(images, arguments.rounds)
            quality(images)
        if arguments.only in (None, "epoch"):
            epochs(folder, images, arguments.images, arguments.rounds)


if __name__ == "__main__":
    main()
