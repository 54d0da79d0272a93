"""Other Pythons: what is pickled for them, what they see, and what looking for plugins costs."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING

import pytest

from kappacore.testing.caching.case import LENGTH
from kappacore.testing.caching.children import run_program
from kappacore.testing.caching.content import check_equal

if TYPE_CHECKING:
    from kappacore.testing.caching.case import Case

__all__ = ["ProcessTests"]

_SECOND_USER = """
ref, namespace, length, fixed = arguments
backend = ref.open(namespace, length, **fixed)
found = backend.get(0)
assert found is not None and bytes(found) == b"by the first", f"another process finds {found!r}"
assert backend.put(1, [b"by the ", b"second"]) is True
backend.close()
"""

_DISCOVERY = """
import contextlib, importlib, io, json, sys

(target,) = arguments
module = target.partition(":")[0]
package = module.partition(".")[0]
heavy = [module, "torch", "numpy"]
if package != module:
    importlib.import_module(package)
    loaded = [name for name in heavy if name in sys.modules]
    assert not loaded, f"importing {package} imports {loaded}: keep its __init__.py empty or lazy"
from kappacore.cli import main

listing = io.StringIO()
with contextlib.redirect_stdout(listing):
    main(["plugins", "--json"])
assert module not in sys.modules, f"looking for plugins imports {module}"
rows = [
    row for row in json.loads(listing.getvalue())
    if (row["kind"], row["target"]) == ("backend", target)
]
print(json.dumps(rows))
"""


class ProcessTests:
    """What holds between unrelated processes."""

    def test_a_choice_survives_pickling(self, case: Case) -> None:
        case.skip_unless_sendable()
        again = pickle.loads(pickle.dumps(case.ref))  # noqa: S301 - just made
        assert (again.name, again.target) == (case.ref.name, case.ref.target)
        assert list(again.options) == list(case.ref.options)
        assert again.load() is case.cls

    def test_an_unrelated_process_sees_the_entries(self, case: Case) -> None:
        case.skip_unless_shared()
        case.skip_unless_sendable()
        backend = case.open()
        backend.put(0, [b"by the first"])
        fixed = {"keep": 0.0} if case.keeps else {}
        run_program(case.timeout, _SECOND_USER, case.ref, case.namespace, LENGTH, fixed)
        check_equal(backend.get(1), b"by the second", "the entry of another process is not seen")
        check_equal(backend.get(0), b"by the first")

    def test_it_is_found_without_being_imported(self, case: Case) -> None:
        if not case.ref.distribution:
            pytest.skip(f"{case.ref} is registered in code: there is nothing to be found")
        rows = json.loads(run_program(case.timeout, _DISCOVERY, case.ref.target))
        assert rows, f"`kappacore plugins` lists no backend {case.ref.target}"
        for row in rows:
            assert row["scope"] == case.cls.scope, "the scopes of its spec and its class differ"
            assert row["status"] == "ok", row["reason"]
