"""A choice of a plugin with its options: what datasets carry, and what reaches their workers.

A worker has no registry: it is handed a :class:`PluginRef` and imports the target itself.
"""

from __future__ import annotations

import copy
import importlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kappacore._shown import shown
from kappacore.errors import BrokenPluginError, KappaError
from kappacore._importable import require_importable, require_picklable
from kappacore.plugins.info import KINDS
from kappacore.plugins.options import check_options

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PluginRef:
    """A plugin chosen by name, with its options; made by :func:`kappacore.backend`.

    It pickles to its names and options, so it survives every way of starting a DataLoader worker.
    What was registered in code is kept as it is in this process, and imported by name in others.

    Args:
        kind: ``"backend"``, ``"wrapper"`` or ``"source"``.
        name: The name it was chosen by, without the distribution.
        target: ``"package.module:attribute"``.
        options: What the target is called with.
        distribution: Who provides it, with its version; empty for what was registered in code.
        requires: What the target needs installed.
        registered: The object registered in code; never pickled.
    """

    kind: str
    name: str
    target: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    distribution: str = field(default="", compare=False)
    requires: tuple[str, ...] = field(default=(), compare=False)
    registered: Any = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{KINDS[self.kind]} {self.name!r}"

    def load(self) -> Any:
        """Return the class or function itself, importing it if need be.

        Raises:
            BrokenPluginError: If it cannot be imported, from the cause.
        """
        if self.registered is not None:
            return self.registered
        module_name, _, attribute = self.target.partition(":")
        try:
            value: Any = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:
            raise BrokenPluginError(
                f"{self} of {self._provider()} cannot be used: importing {module_name} raised "
                f"{type(error).__name__}: {error}.{self._install_hint()}"
            ) from error
        try:
            for part in attribute.split("."):
                value = getattr(value, part)
        except AttributeError as error:
            raise BrokenPluginError(self._missing(module_name, attribute, value)) from error
        if not callable(value):
            raise BrokenPluginError(
                f"{self} of {self._provider()} cannot be used: {self.target} is {value!r}, "
                "expected a class or a function."
            )
        return value

    def open(self, *args: Any, **fixed: Any) -> Any:
        """Call the target with ``args``, ``fixed`` and the options, and return what it gives.

        Errors of kappacore and of the operating system pass as they are; any other error becomes
        a BrokenPluginError from it, which says which plugin raised it.

        Raises:
            BrokenPluginError: If the target cannot be imported or raises.
            UnknownOptionError: If the target has no such option.
            InvalidOptionError: If an option that the target needs is missing.
        """
        target = self.load()
        check_options(str(self), target, self.options, len(args), fixed)
        try:
            return target(*args, **fixed, **self.options)
        except (KappaError, OSError):
            raise
        except Exception as error:
            raise BrokenPluginError(
                f"{self} of {self._provider()} raised {type(error).__name__}: {error}"
            ) from error

    def with_options(self, options: Mapping[str, Any]) -> PluginRef:
        """Return the same choice with more options."""
        return replace(self, options={**self.options, **options})

    def _provider(self) -> str:
        return self.distribution or f"this program ({self.target})"

    def _install_hint(self) -> str:
        if not self.requires:
            return ""
        needed = " ".join(f"'{requirement}'" for requirement in self.requires)
        return f" It needs: pip install {needed}."

    def _missing(self, module_name: str, attribute: str, where: Any) -> str:
        if module_name == "__main__":
            return (
                f"{self} cannot be used in this process: its main script "
                f"({getattr(where, '__file__', 'none')}) defines no {attribute}. A class or "
                'function under `if __name__ == "__main__":` exists only in the process that ran '
                "the script, not in its workers: move it above that line, or into a module."
            )
        return (
            f"{self} of {self._provider()} cannot be used: {module_name} has no {attribute}. "
            "Correct the target where it is registered."
        )

    def __repr__(self) -> str:
        options = "".join(f", {name}={shown(name, v)}" for name, v in self.options.items())
        return f"PluginRef({self.kind!r}, {self.name!r}{options})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.registered is not None:
            require_importable(str(self), self.registered)
        require_picklable(str(self), self.options)
        state = (self.kind, self.name, self.target, dict(self.options))
        return PluginRef, (*state, self.distribution, self.requires)

    def __copy__(self) -> PluginRef:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> PluginRef:
        return replace(self, options=copy.deepcopy(dict(self.options), memo))
