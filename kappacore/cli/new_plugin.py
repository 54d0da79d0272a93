"""``kappacore new-plugin``: a package of one's own, with one example that works and its test."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from kappacore import plugin_api
from kappacore.cli.parsers import add_command
from kappacore.errors import InvalidOptionError, PluginConflictError, PluginError
from kappacore.plugins.info import KINDS, normalize
from kappacore.plugins.specs import check_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kappacore.cli.parsers import Subparsers

_TEMPLATES = Path(__file__).with_name("templates")
_SUFFIX = ".template"
_PREFIX = "kappa-"  # of distributions, and of no plugin's name
_PEP_508 = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_TAKEN_FOLDERS = {"tests", "build", "dist"}  # of the package's tests, and of what builds it
_CLASS_SUFFIXES = {
    "backend": "Backend",
    "wrapper": "Wrapper",
    "source": "Dataset",
    "device": "Device",
}


@dataclass(frozen=True)
class Names:
    """What a new package and its parts are called.

    Attributes:
        distribution: What is installed, and the folder: ``kappa-sqlite``.
        package: What is imported: ``kappa_sqlite``.
        plugin: What users choose: ``sqlite``.
        class_name: ``SqliteBackend``.
    """

    distribution: str
    package: str
    plugin: str
    class_name: str


def add_new_plugin(subparsers: Subparsers) -> None:
    """Add the parser of ``kappacore new-plugin``."""
    parser = add_command(
        subparsers,
        "new-plugin",
        "write a package with a plugin of your own, which works and has a test",
        details=(
            "The folder DIR/NAME gets a pyproject.toml with the entry point, an example of the "
            "kind to replace, its test and a README. The plugin of kappa-sqlite is chosen as "
            "'sqlite', that of acme-store as 'acme-store'."
        ),
        examples="""
            kappacore new-plugin kappa-sqlite --kind backend
            kappacore new-plugin kappa-webdataset --kind source --into ~/code
        """,
        exit_codes="0 done; 1 NAME is taken, or DIR/NAME cannot be written; 2 wrong usage.",
    )
    parser.add_argument("name", metavar="NAME", help="the name of the distribution")
    parser.add_argument("--kind", choices=list(KINDS), required=True, help="what it provides")
    parser.add_argument(
        "--into",
        metavar="DIR",
        type=_folder,
        default=Path(),
        help="where its folder goes (default: .)",
    )
    parser.set_defaults(run=_run)


def _folder(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        what = f"{text!r} is the home of no user; expected a folder"
        raise argparse.ArgumentTypeError(what) from None


def _run(args: argparse.Namespace) -> int:
    names = names_of(args.name, args.kind)
    refuse_taken(names, args.kind)
    folder, files = write_package(names, args.kind, args.into)
    print(f"{folder}: a {KINDS[args.kind]} that is chosen by {names.plugin!r}")
    print("\n".join(f"    {file}" for file in files))
    print(f"Next:\n    cd {folder}\n    python -m pip install -e '.[dev]'\n    pytest")
    return 0


def names_of(name: str, kind: str) -> Names:
    """Return what a package is called.

    Args:
        name: The name of the distribution, as the user wrote it.
        kind: One of `KINDS`.

    Raises:
        InvalidOptionError: If it cannot be a package's or a plugin's name.
    """
    if not _PEP_508.fullmatch(name):
        raise InvalidOptionError(
            f"{name!r} cannot be the name of a distribution: expected letters, digits, '.', '-' "
            f"and '_', with a letter or digit at both ends (PEP 508), such as 'kappa-sqlite'."
        )
    distribution = normalize(name)
    package = distribution.replace("-", "_")
    plugin = distribution.removeprefix(_PREFIX)
    for each in (package, plugin.replace("-", "_")):
        if not each.isidentifier() or keyword.iskeyword(each):
            raise InvalidOptionError(
                f"{name!r} cannot be the name of a plugin's package: Python could not import "
                f"{each!r}. Choose a name that begins with a letter and is no keyword, such as "
                f"'kappa-sqlite'."
            )
    if package in _TAKEN_FOLDERS:
        raise InvalidOptionError(
            f"{name!r} cannot be the name of a plugin's package: its folder {package!r} has "
            f"another use. Choose another name, such as 'kappa-sqlite'."
        )
    stem = "".join(part.capitalize() for part in plugin.split("-"))
    suffix = _CLASS_SUFFIXES[kind]
    class_name = stem.removesuffix(suffix) + suffix
    if class_name in dir(plugin_api):  # its own base
        class_name = f"My{class_name}"
    return Names(distribution, package, check_name(plugin), class_name)


def refuse_taken(names: Names, kind: str) -> None:
    """Raise PluginConflictError if something has one of the names already."""
    from kappacore.plugins.registry import PUBLISHED, all_plugins

    for info in all_plugins():
        if info.kind == kind and names.plugin in info.names:
            raise PluginConflictError(
                f"The {KINDS[kind]} {names.plugin!r} exists: {info.provider} provides it. Choose "
                f"another name."
            )
        if normalize(info.distribution) == names.distribution:
            raise PluginConflictError(
                f"{info.provider} is installed already. Choose another name, or uninstall it."
            )
    publisher = PUBLISHED[kind].get(names.plugin)
    if publisher or names.distribution in PUBLISHED[kind].values():
        raise PluginConflictError(
            f"The {KINDS[kind]} {names.plugin!r} exists: kappacore's own "
            f"{publisher or names.distribution} provides it. Choose another name."
        )
    found = importlib.util.find_spec(names.package)
    if found is not None and found.origin is not None:  # not just a folder that lies here
        raise PluginConflictError(
            f"A module {names.package!r} is installed already ({found.origin}), and one would hide "
            f"the other. Choose another name."
        )


def write_package(names: Names, kind: str, into: Path) -> tuple[Path, list[str]]:
    """Write a package; return its folder, and its files. A failure leaves nothing.

    Args:
        names: What it is called.
        kind: One of `KINDS`.
        into: The folder that its own folder is made in.

    Raises:
        PluginError: If that cannot be written, or has something of that name.
    """
    folder = into / names.distribution
    contents = contents_of(names, kind)
    try:
        if not into.is_dir():
            raise PluginError(
                f"There is no folder '{into}'. Make it first, or give another --into."
            )
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise PluginError(f"'{folder}' exists and is not empty. Choose another name or --into.")
        with tempfile.TemporaryDirectory(prefix=".kappacore-", dir=into) as work:
            made = Path(work) / names.distribution
            for file, text in contents.items():
                path = made / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            made.rename(folder)  # at once, and only over an empty folder
    except OSError as error:
        raise PluginError(f"'{folder}' cannot be written: {error.strerror or error}.") from error
    return folder, list(contents)


def contents_of(names: Names, kind: str) -> dict[str, str]:
    """Return the text of each file of a package, from the templates beside this module."""
    values = {
        "distribution": names.distribution,
        "package": names.package,
        "name": names.plugin,
        "class_name": names.class_name,
        "module": kind,
        "description": f"{KINDS[kind].capitalize()} {names.plugin} for kappacore.",
    }
    for part in ("usage", "testing"):  # of the README
        values[part] = _filled(_TEMPLATES / kind / f"{part}{_SUFFIX}", values).strip()
    paths = {
        path.relative_to(_TEMPLATES / group).as_posix(): path
        for group in ("common", kind)
        for path in (_TEMPLATES / group).rglob(f"*{_SUFFIX}")
        if path.parent.name != kind
    }
    return {
        file.replace("PACKAGE", names.package).removesuffix(_SUFFIX): _filled(path, values)
        for file, path in sorted(paths.items())
    }


def _filled(path: Path, values: Mapping[str, str]) -> str:
    return Template(path.read_text(encoding="utf-8")).substitute(values)
