"""Specs: a small, checked description of each part of a plugin that is chosen by name.

A spec names its target by a string, ``"package.module:attribute"``, so listing plugins imports
none of them. This module imports only the standard library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from kappacore.errors import InvalidOptionError

#: The version of the plugin contract that this kappacore implements.
API = 1

#: Who sees what a backend stores: this process, all of the machine, or all machines.
Scope = Literal["process", "machine", "network"]
SCOPES: tuple[str, ...] = get_args(Scope)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_IDENTIFIER = r"[^\W\d]\w*"
_DOTTED = rf"{_IDENTIFIER}(\.{_IDENTIFIER})*"
_TARGET = re.compile(rf"{_DOTTED}:{_DOTTED}")


def check_name(name: Any, what: str = "name") -> str:
    """Return ``name``, or raise InvalidOptionError if it cannot be the name of a plugin."""
    if name == "auto":
        raise InvalidOptionError(
            f"{what} {name!r} cannot be the name of a plugin: it stands for the best cache backend "
            f"that is installed. Choose another, such as 'my-cache'."
        )
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise InvalidOptionError(
        f"{what} {name!r} cannot be the name of a plugin: expected a string of lower-case letters, "
        "digits, '-' and '_' that starts with a letter or digit, such as 'my-cache'."
    )


def check_target(target: Any) -> str:
    """Return ``target``, or raise InvalidOptionError if it has the wrong form."""
    if isinstance(target, str) and _TARGET.fullmatch(target):
        return target
    raise InvalidOptionError(
        f"target {target!r} cannot be imported: expected 'package.module:attribute', "
        "such as 'my_package.backend:MyBackend'."
    )


def check_scope(scope: Any) -> str:
    """Return ``scope``, or raise InvalidOptionError if it is not one of `SCOPES`."""
    if scope in SCOPES:
        return str(scope)
    raise InvalidOptionError(
        f"scope {scope!r} does not exist: expected 'process', 'machine' or 'network', "
        "which is who sees the backend's entries."
    )


@dataclass(frozen=True, kw_only=True)
class PluginSpec:
    """The description that all kinds of plugins have in common.

    Args:
        name: The name that users choose it by; lower-case letters, digits, ``-`` and ``_``.
        target: ``"package.module:attribute"``, imported when the plugin is chosen.
        api: The version of the plugin contract it was written for: 1.
        summary: One line for ``kappacore plugins``.
        requires: Requirements of the target, in the syntax of ``pip install``.
        aliases: Other names of the same plugin.

    Raises:
        InvalidOptionError: If a field has an invalid value.
    """

    kind: ClassVar[str]
    name: str
    target: str
    api: int
    summary: str = ""
    requires: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        check_target(self.target)
        if type(self.api) is not int or self.api < 1:
            raise InvalidOptionError(
                f"api {self.api!r} of {self.name!r} is not a version of the plugin contract: "
                f"expected an integer from 1; this kappacore implements {API}."
            )
        if not isinstance(self.summary, str):
            raise InvalidOptionError(
                f"summary {self.summary!r} of {self.name!r}: expected a line of text."
            )
        for field in ("requires", "aliases"):
            value = getattr(self, field)
            if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
                raise InvalidOptionError(
                    f"{field} {value!r} of {self.name!r}: expected a tuple of strings, such as "
                    f"{field}=('one',)."
                )
        for alias in self.aliases:
            check_name(alias, what="alias")


@dataclass(frozen=True, kw_only=True)
class CacheBackendSpec(PluginSpec):
    """A cache backend: a subclass of :class:`kappacore.CacheBackend`.

    Args:
        scope: Who sees the stored values: one ``"process"``, all processes of one ``"machine"``,
            or every machine of the ``"network"``. The other fields are those of
            :class:`PluginSpec`.

    Example::

        CacheBackendSpec(
            name="sqlite", target="kappa_sqlite.backend:SQLiteBackend", scope="machine", api=1
        )
    """

    kind = "backend"
    scope: Scope

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scope(self.scope)


@dataclass(frozen=True, kw_only=True)
class WrapperSpec(PluginSpec):
    """A dataset wrapper: a callable ``(dataset, **options)`` that returns a dataset.

    Its fields are those of :class:`PluginSpec`.
    """

    kind = "wrapper"


@dataclass(frozen=True, kw_only=True)
class SourceSpec(PluginSpec):
    """A source dataset: a callable ``(**options)`` that returns a dataset.

    Its fields are those of :class:`PluginSpec`.
    """

    kind = "source"


@dataclass(frozen=True, kw_only=True)
class DeviceSpec(PluginSpec):
    """A device: a subclass of :class:`kappacore.plugin_api.Device`.

    Its name is that of the device in torch: ``Loader(device="cuda:1")`` opens ``"cuda"``.
    The fields are those of :class:`PluginSpec`.
    """

    kind = "device"
