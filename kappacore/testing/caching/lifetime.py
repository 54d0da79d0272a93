"""Instances: closed twice, several of them, and what is left when the last user leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kappacore.testing.caching.content import check_equal

if TYPE_CHECKING:
    from kappacore.testing.caching.case import Case

__all__ = ["LifetimeTests"]


class LifetimeTests:
    """What holds when instances are opened and closed."""

    def test_close_may_be_called_twice(self, case: Case) -> None:
        used, unused = case.open(), case.open(f"{case.namespace}.x")
        used.put(0, [b"value"])
        for backend in (used, unused):
            backend.close()
            backend.close()

    def test_instances_of_one_process_share_and_close_apart(self, case: Case) -> None:
        case.skip_unless_shared()
        first, second = case.open(), case.open()
        first.put(0, [b"by the first"])
        check_equal(second.get(0), b"by the first", "another instance does not see it")
        case.close(first)
        check_equal(second.get(0), b"by the first", "close() took it from another instance")
        assert second.put(1, [b"by the second"]) is True
        check_equal(case.open().get(1), b"by the second", "another instance does not see it")

    def test_clear_reaches_every_instance(self, case: Case) -> None:
        case.skip_unless_shared()
        case.skip_unless_defined("clear")
        first, second = case.open(), case.open()
        first.put(0, [b"old"])
        check_equal(second.get(0), b"old")
        first.clear()
        assert second.get(0) is None, "another instance still sees what was cleared"
        assert second.put(0, [b"new"]) is True
        check_equal(first.get(0), b"new")

    def test_a_namespace_can_be_opened_again(self, case: Case) -> None:
        for value in (b"first", b"second"):
            backend = case.open()
            assert backend.put(0, [value]) is True
            check_equal(backend.get(0), value)
            case.close(backend)

    def test_entries_go_with_their_last_user(self, case: Case) -> None:
        if case.cls.scope == "network":
            pytest.skip(f"{case.ref}: nobody knows the last user of a network")
        samples = [b"a", b"b", b"c"]
        namespace = case.new_namespace()
        for opening in ("first", "second"):
            with case.dataset(samples, namespace=namespace) as dataset:
                assert list(dataset) == samples
                assert list(dataset) == samples
                reads = dataset.stats().source_reads
            assert reads == len(samples), f"{reads} samples were read at the {opening} opening"
