"""Datasets from names: sources, wrappers and modes, in code or from plain data (YAML, JSON, Hydra).

Example::

    dataset = kappacore.build(
        {
            "source": {"use": "imagefolder", "root": "/data/train"},
            "wrappers": [{"use": "cache", "backend": {"use": "shared", "max_bytes": "64GiB"}}],
            "mode": "x class",
        }
    )
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, MutableSequence, Sequence
from typing import TYPE_CHECKING, Any

from kappacore import plugins
from kappacore._shown import shown
from kappacore.errors import ConfigError, KappaError
from kappacore.plugins.instantiate import instantiate

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["build", "load_dataset", "wrap"]

_KEYS = ("source", "wrappers", "mode")


def load_dataset(name: str | Mapping[str, Any] | plugins.PluginRef, /, **options: Any) -> Any:
    """Return a source dataset, chosen by name.

    Args:
        name: The name of a source, or ``{"use": name, **options}``.
        **options: What the source is called with.

    Raises:
        UnknownPluginError: If there is no such source; the message says what to install.
        UnknownOptionError: If the source has no such option.
        BrokenPluginError: If the source cannot be imported or raises, from the cause. Errors of
            kappacore and of the operating system pass as they are.

    Example::

        dataset = kappacore.load_dataset("imagefolder", root="/data/train")
    """
    if isinstance(name, Mapping):
        name = instantiate(name, "source")
    return plugins.as_ref("source", name, options).open()


def wrap(dataset: Any, name: str | Mapping[str, Any] | plugins.PluginRef, /, **options: Any) -> Any:
    """Return ``dataset`` in a wrapper, chosen by name.

    Args:
        dataset: The dataset to wrap.
        name: The name of a wrapper, or ``{"use": name, **options}``.
        **options: What the wrapper is called with, besides the dataset.

    Raises:
        UnknownPluginError: If there is no such wrapper; the message says what to install.
        UnknownOptionError: If the wrapper has no such option.
        BrokenPluginError: If the wrapper cannot be imported or raises, from the cause. Errors of
            kappacore and of the operating system pass as they are.

    Example::

        dataset = kappacore.wrap(dataset, "cache", items="x", backend="shared")
    """
    if isinstance(name, Mapping):
        name = instantiate(name, "wrapper")
    return plugins.as_ref("wrapper", name, options).open(dataset)


def build(
    config: Mapping[str, Any] | None = None,
    /,
    *,
    source: Any = None,
    wrappers: Sequence[Any] | None = (),
    mode: str | None = None,
) -> Any:
    """Return the dataset that a configuration describes.

    An option that is ``{"_target_": "package.attribute", ...}`` is imported and called with the
    rest, at any depth; one that is already an object (Hydra) is used as it is.

    Args:
        config: ``{"source": ..., "wrappers": [...], "mode": ...}``; or give these as keywords.
        source: The name of a source, ``{"use": name, **options}``, or a dataset.
        wrappers: Names of wrappers or ``{"use": name, **options}``, the innermost first.
        mode: What a sample consists of, for :class:`kappacore.ModeWrapper`; without it the
            dataset is returned as it is.

    Raises:
        ConfigError: If the configuration is malformed; the message names the place.
        KappaError: If a part cannot be made; the message begins with the place, such as
            ``wrappers[1]`` or ``wrappers[1].valid_classes``.
    """
    if config is not None:
        if source is not None or wrappers or mode is not None:
            raise ConfigError(
                "build() got a config and keywords as well: give source, wrappers and mode either "
                "in the config or as keywords."
            )
        source, wrappers, mode = _read_config(config)
    dataset = _build_source(source)
    for position, wrapper in enumerate(_read_wrappers(wrappers)):
        place = f"wrappers[{position}]"
        choice = instantiate(wrapper, place)
        with _at(place, choice):
            dataset = plugins.as_ref("wrapper", choice).open(dataset)
    if mode is None:
        return dataset
    from kappacore.datasets import ModeWrapper

    with _at("mode"):
        return ModeWrapper(dataset, mode)


def _read_config(config: Any) -> tuple[Any, Any, Any]:
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"config is {shown('', config)}: expected a mapping with the keys {', '.join(_KEYS)}."
        )
    unknown = [key for key in config if key not in _KEYS]
    if unknown:
        raise ConfigError(
            f"{unknown[0]!r} is no part of a config: expected the keys {', '.join(_KEYS)}. "
            "Options belong beside the name they are for: "
            '{"source": {"use": "imagefolder", "root": ...}}.'
        )
    return config.get("source"), config.get("wrappers"), config.get("mode")


def _build_source(source: Any) -> Any:
    source = instantiate(source, "source")
    with _at("source", source):
        if source is None:
            raise ConfigError(
                'is missing: expected a name, {"use": name, ...its options} or a dataset. '
                f"There are: {', '.join(plugins.available('source')) or 'none'}."
            )
        if _is_choice(source) or not hasattr(type(source), "__getitem__"):
            return plugins.as_ref("source", source).open()
        return source


def _is_choice(source: Any) -> bool:
    """Tell names and what can only be a mistake in a config from datasets."""
    return isinstance(source, (str, Mapping, list, tuple, plugins.PluginRef))


def _read_wrappers(wrappers: Any) -> Sequence[Any]:
    if wrappers is None:
        return ()
    if isinstance(wrappers, (tuple, MutableSequence)):
        return wrappers
    raise ConfigError(
        f"wrappers is {shown('', wrappers)}: expected a list of names or of "
        '{"use": name, ...its options}.'
    )


@contextlib.contextmanager
def _at(place: str, choice: Any = None) -> Iterator[None]:
    """Put the place in the config before the message of an error of kappacore.

    Messages about an option begin with its name, and the place is then that of the option.
    """
    try:
        yield
    except KappaError as error:
        if len(error.args) == 1:
            first = re.match(r"\w*", str(error.args[0]))
            if first and isinstance(choice, Mapping) and first[0] in choice:
                place = f"{place}.{first[0]}"
            error.args = (f"{place}: {error.args[0]}",)
        raise
