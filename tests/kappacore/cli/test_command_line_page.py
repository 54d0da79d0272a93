"""Every command and option is explained: by its help, and by docs/command-line.md."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from kappacore.cli import make_parser

PAGE = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", PAGE, re.MULTILINE))


def commands(parser=None):
    """Return the parser of each command that does something, by its name."""
    parser = parser or make_parser()
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        return {parser.prog: parser}
    return {
        name: each
        for action in below
        for choice in action.choices.values()
        for name, each in commands(choice).items()
    }


COMMANDS = commands()


def test_there_are_commands():
    assert {"kappacore plugins", "kappacore cache gc", "kappacore stage"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_names_every_command_and_its_arguments(name):
    assert f"`{name}" in PAGE
    section = SECTIONS[" ".join(name.split()[:2])]
    for action in COMMANDS[name]._actions:
        if "--help" not in action.option_strings:
            word = (action.option_strings or [action.metavar])[-1]
            assert re.search(rf"^\| .*`{word}[ `].* \| .+ \|$", section, re.MULTILINE), word


def test_the_page_names_no_option_that_is_not_there():
    there = {word for each in COMMANDS.values() for a in each._actions for word in a.option_strings}
    assert set(re.findall(r"`(--[\w-]+)", PAGE)) <= there


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_every_argument_and_gives_examples_that_parse(name):
    parser = COMMANDS[name]
    assert [action.dest for action in parser._actions if not action.help] == []
    examples = parser.format_help().partition("examples:\n")[2].partition("\n\n")[0]
    lines = [line.strip().partition("   ")[0] for line in examples.splitlines()]
    assert lines
    for line in lines:
        assert line.startswith(f"{name} ") or line == name
        make_parser().parse_args(shlex.split(line)[1:])
    assert "exit codes: 0 " in parser.format_help()
