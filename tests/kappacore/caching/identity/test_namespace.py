from __future__ import annotations

import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kappacore
from kappacore.caching.identity.header import NamespaceHeader
from kappacore.caching.identity.namespace import identify
from kappacore.errors import InvalidOptionError, NamespaceMismatchError, NamespaceRequiredError


@pytest.fixture(autouse=True)
def _one_rank(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)


def identity(**changes):
    given = {
        "dataset": "Flowers",
        "item": "x",
        "form": "raw",
        "length": 10,
        "fingerprint": "abc",
        "namespace": None,
    }
    return identify(**{**given, **changes})


def test_the_same_content_is_the_same_namespace_in_any_process():
    assert identity().namespace == identity(dataset="Renamed").namespace
    assert identity().namespace == "06b05ab6733a618578af5f94892f3950.x.raw.10.v2"


@pytest.mark.parametrize(
    "change",
    [
        {"item": "y"},
        {"form": "decoded"},
        {"length": 11},
        {"fingerprint": "abd"},
        {"namespace": "named"},
        {"namespace": kappacore.PRIVATE},
        {"fingerprint": None},
    ],
)
def test_whatever_differs_makes_another_namespace(change):
    assert identity(**change).namespace != identity().namespace
    assert identity(**change).digest_name("") != identity().digest_name("")


def test_a_name_takes_the_place_of_the_fingerprint_and_keeps_the_rest():
    assert identity(namespace="in1k-train").namespace == "in1k-train.x.raw.10.v2"


def test_a_name_shared_by_two_contents_still_keeps_their_values_apart():
    one, two = identity(namespace="n"), identity(namespace="n", fingerprint="other")
    assert one.namespace == two.namespace
    assert one.digest_name("") != two.digest_name("")


def test_private_namespaces_never_meet():
    names = {identity(fingerprint=None).namespace for _ in range(5)}
    names |= {identity(namespace=kappacore.PRIVATE).namespace for _ in range(5)}
    assert len(names) == 10
    assert identity(fingerprint=None).private
    assert identity(namespace=kappacore.PRIVATE).private
    assert not identity().private
    assert not identity(fingerprint=None, namespace="named").private


def test_private_is_one_object_that_prints_and_pickles_as_its_name():
    assert repr(kappacore.PRIVATE) == "kappacore.PRIVATE"
    assert pickle.loads(pickle.dumps(kappacore.PRIVATE)) is kappacore.PRIVATE


@pytest.mark.slow
@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_every_item_gives_a_namespace_that_backends_take_and_that_is_its_own(one, two):
    first, second = identity(item=one).namespace, identity(item=two).namespace
    assert re.fullmatch(r"[a-z0-9._-]{1,100}", first)
    assert (first == second) == (one == two)


@pytest.mark.parametrize("length", [0, 10**12])
def test_the_longest_name_fits_into_what_backends_take(length):
    longest = identity(namespace="n" * 48, item="UPPER" * 10, form="decoded", length=length)
    assert re.fullmatch(r"[a-z0-9._-]{1,100}", longest.namespace)


@pytest.mark.parametrize(
    "namespace", ["", "Upper", "with blank", "a/b", "../x", "x" * 49, "é", 5, b"bytes", "a\n", True]
)
def test_a_name_that_cannot_be_used_is_refused_with_what_can(namespace):
    expected = rf"namespace={re.escape(repr(namespace))} is not valid. Use 1 to 48 characters out"
    with pytest.raises(InvalidOptionError, match=expected):
        identity(namespace=namespace)


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_several_ranks_without_identity_are_refused_with_what_to_do(monkeypatch, variable):
    monkeypatch.setenv(variable, "2")
    expected = (
        r"^2 ranks run, and nothing identifies the content of Flowers \(its fingerprint of 'x' is "
        r"unknown\), so each rank would fill a private cache. Name it: namespace='my-dataset-train'"
    )
    with pytest.raises(NamespaceRequiredError, match=expected):
        identity(fingerprint=None)
    # Whatever says that it is meant, or means the same in every rank, is fine.
    assert identity(fingerprint=None, namespace=kappacore.PRIVATE).private
    identity(fingerprint=None, namespace="named")
    identity()
    identity(fingerprint=None, shared=False)


@pytest.mark.parametrize("value", ["1", "", "many", "-2"])
def test_one_rank_or_a_variable_that_says_nothing_is_one_rank(monkeypatch, value):
    monkeypatch.setenv("WORLD_SIZE", value)
    assert identity(fingerprint=None).private


def test_a_batch_script_of_many_tasks_is_one_rank(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "8")  # srun would start them, each with SLURM_STEP_NUM_TASKS
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert identity(fingerprint=None).private


def header(**changes):
    return NamespaceHeader.of(identity(**changes), {}, "stamp")


def test_the_header_of_the_same_content_agrees():
    header(dataset="Renamed").check(identity())
    header(fingerprint=None).check(identity(fingerprint=None))


def test_another_header_is_refused_part_by_part():
    expected = (
        r"^The cache namespace 'n.x.raw.10.v2' holds samples of another dataset:\n"
        r"  fingerprint: the cache has 'old', this dataset has 'abc'\n"
        r"  dataset: the cache has 'Trees', this dataset has 'Flowers'\n"
        r"Give this dataset another namespace=\.$"
    )
    with pytest.raises(NamespaceMismatchError, match=expected):
        header(namespace="n", fingerprint="old", dataset="Trees").check(identity(namespace="n"))


@pytest.mark.parametrize("stored", [None, "text", 5, [], {}, {"fingerprint": None}])
def test_a_header_that_does_not_say_the_same_is_refused(stored):
    codec = kappacore.caching.default_codec()
    found = NamespaceHeader.decode(codec, b"".join(codec.encode(stored, 10, "n")), 10, "n")
    with pytest.raises(NamespaceMismatchError):
        found.check(identity())


def test_a_header_is_read_as_it_was_written():
    codec = kappacore.caching.default_codec()
    written = NamespaceHeader.of(identity(), {0: "digest"}, "stamp")
    found = NamespaceHeader.decode(codec, b"".join(written.encode(codec, 10, "n")), 10, "n")
    assert found == written


@pytest.mark.parametrize(("one", "two"), [("abc", None), (None, "abc")])
def test_known_and_unknown_content_do_not_agree(one, two):
    with pytest.raises(NamespaceMismatchError):
        header(fingerprint=two).check(identity(fingerprint=one))
