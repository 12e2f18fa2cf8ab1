"""The command line tells how to use it, and what it tells is so."""

from __future__ import annotations

import argparse
import re

import pytest

from surefoot.cli import build_parser

pytestmark = pytest.mark.once


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command and its subcommands."""
    main = build_parser()
    (subparsers,) = (
        action for action in main._actions if isinstance(action, argparse._SubParsersAction)
    )
    return {"": main, **subparsers.choices}


def examples(parser: argparse.ArgumentParser) -> list[str]:
    """The commands under "examples:" in the help, without what is said of them."""
    return re.findall(r"^  (?:python -m )?surefoot (.*?)(?:   .*)?$", parser.epilog or "", re.M)


EXAMPLES = [(name, example) for name, parser in parsers().items() for example in examples(parser)]


def test_there_are_examples() -> None:
    assert {name for name, _ in EXAMPLES} == set(parsers())


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_examples_in_the_help_are_understood(name: str, example: str) -> None:
    words = example.split()
    if "--help" in words:
        with pytest.raises(SystemExit, match="0"):
            build_parser().parse_args(words)
    else:
        assert callable(build_parser().parse_args(words).run)
