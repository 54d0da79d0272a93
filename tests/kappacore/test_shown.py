"""No secret is in what people are shown: reprs and messages."""

from __future__ import annotations

import pytest

import kappacore
from kappacore._shown import shown
from kappacore.errors import KappaError
from support.numbers import Numbers

TIER = {"use": "redis", "password": "hunter2"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backend", ["shared", TIER]),
        ("backend", ("shared", [TIER])),
        ("url", "redis://me:hun@hunter2@host:1/0"),
        ("urls", ["redis://me:hunter2@a", "redis://:hunter2@b"]),
        ("url", "redis://host?db=1&password=hunter2"),
        ("url", "https://store/file?sig=hunter2&b=1"),
        ("url", b"redis://me:hunter2@host"),
        ("url", "redis://hunter2@host"),
        ("url", "redis://hunter2:x@host"),
        ("username", "hunter2"),
        ("pwd", "hunter2"),
        ("passphrase", b"hunter2"),
        ("auth", ("me", "hunter2")),
        ("headers", {"Authorization": "Bearer hunter2"}),
        ("connection_string", "AccountKey=hunter2"),
    ],
)
def test_secrets_are_hidden_wherever_they_are(name, value):
    text = shown(name, value)
    assert "hunter2" not in text
    assert "***" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokenizer", "bpe"),
        ("author", "me"),
        ("url", "http://host:80/a?b=c@d"),
        ("one", (1,)),
        ("several", [1, "a", {"b": (2, 3)}, [], ()]),
    ],
)
def test_what_is_no_secret_is_shown_as_it_is(name, value):
    assert shown(name, value) == repr(value)


@pytest.mark.parametrize("value", ["x" * 1000, list(range(10**6)), ["x" * 1000] * 50])
def test_long_values_are_shortened(value):
    assert len(shown("long", value)) == 100


@pytest.mark.parametrize(
    "make",
    [
        lambda: kappacore.build([TIER]),
        lambda: kappacore.build(source=[TIER]),
        lambda: kappacore.build(source=Numbers(), wrappers={"use": "cache", "backend": TIER}),
        lambda: kappacore.wrap(Numbers(), "cache", backend=[["shared", TIER]]),
        lambda: kappacore.wrap(Numbers(), "cache", backend={**TIER, "use": 3}),
    ],
)
def test_messages_about_a_configuration_hide_its_secrets(make):
    with pytest.raises(KappaError, match=r"\*\*\*") as caught:
        make()
    assert "hunter2" not in str(caught.value)
