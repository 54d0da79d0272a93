"""The command ``python -m kappa_imagefolder``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from kappacore.errors import KappaError


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m kappa_imagefolder")
    index = parser.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "index",
        help="make the index of an image folder, by which ImageFolder(root, index=True) opens it",
        description=(
            "Scan an image folder and make its index, in the folder itself or, where that cannot "
            "be written, in your cache directory. An index that is up to date stays as it is."
        ),
    )
    index.add_argument("root", metavar="ROOT", help="the folder with one subfolder per class")
    index.add_argument("--output", metavar="FILE", help="the path of the index")
    index.add_argument(
        "--extensions", metavar="EXT", nargs="+", help="endings of image files, such as .jpg .png"
    )
    index.add_argument("--class-order", default="lexicographic", help="or natural: 1, 2, 10")
    index.add_argument(
        "--ignore-hidden", action="store_true", help="leave out .DS_Store, ._*, __MACOSX and others"
    )
    index.add_argument("--json", action="store_true", help="print a JSON object")
    try:
        return _index(parser.parse_args(argv))
    except KappaError as error:
        print(f"kappa_imagefolder: {error}", file=sys.stderr)  # noqa: T201
        return 1


def _index(arguments: argparse.Namespace) -> int:
    from kappa_imagefolder.dataset import ImageFolder

    began = time.perf_counter()
    dataset = ImageFolder(
        arguments.root,
        allow_empty=True,
        extensions=arguments.extensions,
        class_order=arguments.class_order,
        ignore_hidden=arguments.ignore_hidden,
        index=arguments.output or True,
        index_check="full",
    )
    if dataset.index_path is None:
        return 1  # the reason was logged
    result = {
        "index": dataset.index_path,
        "images": len(dataset),
        "classes": dataset.n_classes,
        "bytes": Path(dataset.index_path).stat().st_size,
        "seconds": round(time.perf_counter() - began, 3),
    }
    text = "{images:,} images in {classes:,} classes: {index} ({bytes:,} bytes, {seconds} s)"
    text = json.dumps(result) if arguments.json else text.format(**result)
    print(text.encode(errors="backslashreplace").decode())  # noqa: T201 - not all is UTF-8
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
