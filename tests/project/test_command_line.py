"""The command line tells how to use it, and what it tells is so."""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize(
    ("arguments", "usage", "near"),
    [
        ("compare --otpimizers adam", "surefoot compare", "; did you mean --optimizers?"),
        ("compare digits --sedes=3", "surefoot compare", "; did you mean --seeds?"),
        ("report run --outt=x", "surefoot report", "; did you mean --out?"),
        ("migrate old.h5 -q", "surefoot migrate", "-q\n"),
        ("--versoin", "surefoot", "; did you mean --version?"),
        # What is missing because of it is not the mistake.
        ("migrate --chekc f.npz", "surefoot migrate", "--chekc; did you mean --check?"),
    ],
)
def test_an_unknown_option_gets_the_usage_and_the_nearest_name(
    capsys: pytest.CaptureFixture[str], arguments: str, usage: str, near: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        build_parser().parse_args(arguments.split())
    error = capsys.readouterr().err
    assert error.startswith(f"usage: {usage} [-h]")
    assert "unrecognized arguments: -" in error
    assert near in error


def test_an_unknown_command_gets_the_usage_of_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        build_parser().parse_args(["compair", "--seeds", "3"])
    error = capsys.readouterr().err
    assert error.startswith("usage: surefoot compare [-h]")
    assert error.endswith("error: there is no command compair; did you mean compare?\n")
    with pytest.raises(SystemExit, match="2"):
        build_parser().parse_args(["train"])
    assert "choose from" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["compare"], ["migrate", "--inspect", "old.h5"]])
def test_without_any_backend_there_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('tensorflow', 'jax', 'torch'): sys.modules[name] = None\n"
        "from surefoot.cli import main\n"
        "sys.argv[0] = 'surefoot'\n"
        f"sys.exit(main({arguments}))"
    )
    variables = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,  # where no report is
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"surefoot: error: no backend .*pip install.*\n", done.stderr)


STARTS = {
    "python -m surefoot": ["-m", "surefoot"],
    "surefoot": [
        "-c",
        "import sys\n"
        "sys.argv[0] = '/usr/bin/surefoot'\n"
        "from surefoot.cli import main\n"
        "sys.exit(main())",
    ],
}


@pytest.fixture
def without_keras(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes in which importing Keras or a backend fails."""
    for package in ("keras", "tensorflow", "jax", "torch"):
        (tmp_path / f"{package}.py").write_text("raise SystemExit('it was imported')\n")
    source = pathlib.Path(__file__).parents[2] / "src"
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{source}")


@pytest.mark.usefixtures("without_keras")
@pytest.mark.parametrize("arguments", [["--help"], ["migrate", "--help"], ["compare", "--help"]])
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_help_comes_without_keras_and_its_messages(start: list[str], arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *start, *arguments], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.startswith("usage: surefoot")


def test_the_command_has_the_optimizers_when_it_needs_them() -> None:
    program = (
        "import sys; sys.argv[0] = 'surefoot'\n"
        "import surefoot; assert 'keras' not in sys.modules\n"
        "import surefoot.optimizers, surefoot.diagnostics\n"
        "print(surefoot.Nadam.__name__, surefoot.OptimizerDiagnostics.__name__)\n"
        "print('Ranger' in surefoot.__all__, hasattr(surefoot, 'losses'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "Nadam OptimizerDiagnostics\nTrue False\n", done.stderr
