"""A plugin chosen by name, with its options: what datasets hold and send to their workers.

Workers have no registry. They receive a :class:`PluginRef` and import its target themselves.
"""

from __future__ import annotations

import copy
import importlib
import operator
import pickle
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kappacore._importable import why_not_importable
from kappacore._shown import shown
from kappacore.errors import BrokenPluginError, KappaError
from kappacore.plugins.info import KINDS
from kappacore.plugins.options import check_options

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PluginRef:
    """A plugin chosen by name, with its options; made by :func:`kappacore.backend`.

    It pickles to its names and options, so it works with every start method of DataLoader workers.
    An object registered in code is used directly in this process and imported by name in others.

    Args:
        kind: One of `KINDS`.
        name: The name it was chosen by, without the distribution.
        target: ``"package.module:attribute"``.
        options: The keyword arguments for the target.
        distribution: The distribution that provides it, with its version; empty for a plugin
            registered in code.
        requires: The requirements of the target.
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
        """Return the target, importing it if necessary.

        Raises:
            BrokenPluginError: If it cannot be imported, from the cause.
        """
        if self.registered is not None:
            return self.registered
        unusable = f"{self} of {self._provider()} cannot be used"
        module_name, _, attribute = self.target.partition(":")
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:
            needed = " ".join(f"'{requirement}'" for requirement in self.requires)
            hint = f" It needs: pip install {needed}." if needed else ""
            raise BrokenPluginError(
                f"{unusable}: importing {module_name} raised {type(error).__name__}: {error}.{hint}"
            ) from error
        try:
            target = operator.attrgetter(attribute)(module)
        except AttributeError as error:
            if module_name != "__main__":
                raise BrokenPluginError(
                    f"{unusable}: {module_name} has no {attribute}. Correct the target where it "
                    "is registered."
                ) from error
            raise BrokenPluginError(
                f"{self} cannot be used in this process: its main script "
                f"({getattr(module, '__file__', 'none')}) defines no {attribute}. A class or "
                'function under `if __name__ == "__main__":` exists only in the process that ran '
                "the script, not in its workers: move it above that line, or into a module."
            ) from error
        if not callable(target):
            raise BrokenPluginError(
                f"{unusable}: {self.target} is {target!r}, expected a class or a function."
            )
        return target

    def open(self, *args: Any, **fixed: Any) -> Any:
        """Call the target with ``args``, ``fixed`` and the options, and return its result.

        Errors of kappacore and of the operating system pass unchanged. Any other error is raised
        as a BrokenPluginError that names the plugin, from the cause.

        Args:
            *args: Come before the options, as the dataset of a wrapper.
            **fixed: Given by kappacore, not by the user.

        Raises:
            BrokenPluginError: If the target cannot be imported or raises.
            UnknownOptionError: If the target has no such option.
            InvalidOptionError: If a required option is missing.
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
        """Return the same choice with more options.

        Args:
            options: The options to add; they replace those of the same name.
        """
        return replace(self, options={**self.options, **options})

    def _provider(self) -> str:
        return self.distribution or f"this program ({self.target})"

    def __repr__(self) -> str:
        options = "".join(f", {name}={shown(name, v)}" for name, v in self.options.items())
        return f"PluginRef({self.kind!r}, {self.name!r}{options})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.registered is not None and (reason := why_not_importable(self.registered)):
            raise BrokenPluginError(
                f"{self} cannot be sent to another process: {reason}. Define it at the top level "
                "of a module (a .py file) and register it there, or let the workers be forked "
                "(multiprocessing_context='fork'), which sends nothing."
            )
        for name, value in self.options.items():
            self._check_picklable(name, value)
        state = (self.kind, self.name, self.target, dict(self.options))
        return PluginRef, (*state, self.distribution, self.requires)

    def _check_picklable(self, name: str, value: Any) -> None:
        try:
            try:
                pickle.dumps(value)
            except Exception:
                from multiprocessing.reduction import ForkingPickler

                # Accepts more than pickle does, such as locks, but only while a process starts.
                ForkingPickler.dumps(value)
        except KappaError:  # another PluginRef among the options, with its own reason
            raise
        except Exception as error:
            raise BrokenPluginError(
                f"{self} cannot be sent to another process: its option {name!r} is a "
                f"{type(value).__qualname__} that does not pickle ({error}). Give a plain value, "
                "or let the workers be forked (multiprocessing_context='fork')."
            ) from error

    def __copy__(self) -> PluginRef:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> PluginRef:
        return replace(self, options=copy.deepcopy(dict(self.options), memo))
