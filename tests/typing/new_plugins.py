"""Write what ``kappacore new-plugin`` writes of each kind, for the type checker."""

from __future__ import annotations

import sys
from pathlib import Path

from kappacore.cli.new_plugin import contents_of, names_of
from kappacore.plugins.info import KINDS


def main(folder: Path) -> None:
    """Write the packages ``new_backend``, ``new_wrapper``, … into a folder."""
    for kind in KINDS:
        names = names_of(f"new-{kind}", kind)
        for file, text in contents_of(names, kind).items():
            if file.startswith(f"{names.package}/"):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
