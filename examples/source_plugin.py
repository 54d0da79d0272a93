"""A source of your own: photos that a table lists, chosen by name."""

import csv
import hashlib
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from photos import make_photos
from PIL import Image

import kappacore


@kappacore.register_source("table")
class Table(kappacore.KDDataset):
    """The images that a CSV file with the columns ``path`` and ``label`` lists.

    Args:
        file: The table; paths in it begin at its folder.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        with self.file.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        self.paths = [row["path"] for row in rows]
        self.classes = sorted({row["label"] for row in rows})
        self.labels = [self.classes.index(row["label"]) for row in rows]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.paths)

    def getraw_x(self, idx: int) -> bytes:  # what a cache keeps
        return (self.file.parent / self.paths[idx]).read_bytes()

    def decode_x(self, raw: bytes) -> Image.Image:  # what it does on the way out
        return Image.open(BytesIO(raw)).convert("RGB")

    def getitem_class(self, idx: int) -> int:
        return self.labels[idx]

    def getall_class(self) -> list[int]:  # so that no wrapper reads images for their labels
        return self.labels

    def fingerprint(self, item: str, raw: bool = False) -> str:
        """Identify the content: this table, for any process and run."""
        return f"{item} {raw} {hashlib.sha256(self.file.read_bytes()).hexdigest()}"


def main(root: str = "photos") -> None:
    """Write a table and read it by the name ``table``."""
    folder = make_photos(root)
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in folder.glob("*/*.jpg")]
    (folder / "table.csv").write_text("\n".join(["path,label", *sorted(rows)]))
    config: dict[str, Any] = {
        "source": {"use": "table", "file": folder / "table.csv"},
        "wrappers": [{"use": "cache", "backend": "shared"}, {"use": "shuffle", "seed": 0}],
        "mode": "x class",
    }
    with kappacore.build(config) as ds:
        image, label = ds[0]
        print(len(ds), image.size, ds.classes[label])


if __name__ == "__main__":
    main(*sys.argv[1:])
