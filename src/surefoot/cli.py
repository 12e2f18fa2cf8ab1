"""The command line: `surefoot compare`, `surefoot report`, `surefoot migrate`, `surefoot info`."""

import argparse
import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

# None of these modules imports Keras, because the arguments choose its backend. Each has
# `add_parser(subparsers)`, which sets `run` to the function that carries out the subcommand.
_COMMANDS = (
    "surefoot.compare.command",
    "surefoot.compare.report_command",
    "surefoot.migrate.command",
    "surefoot.info",
)


_EXAMPLES = """\
examples:
  surefoot compare --output report       which optimizer, at which learning rate?
  surefoot migrate --help                convert a model of tf.keras 2
  surefoot info                          what is installed, and how a step is computed here
  python -m surefoot compare --help      the same, if the command `surefoot` is not on the path
"""


class _Parser(argparse.ArgumentParser):
    """Names what is nearest to an unknown option or command, with the usage of its command."""

    commands: Mapping[str, argparse.ArgumentParser] = {}
    _words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments, and end with an error if one is unknown."""
        self._words = sys.argv[1:] if args is None else args
        known, unknown = super().parse_known_args(self._words, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """End with the usage and a message; a misspelled name comes before what else is wrong."""
        command = next((word for word in self._words if not word.startswith("-")), "")
        for near in difflib.get_close_matches(command, self.commands, 1):
            if command not in self.commands:
                self.commands[near].error(f"there is no command {command}; did you mean {near}?")
        options = [word.partition("=")[0] for word in self._words if word.startswith("--")]
        names = self._option_string_actions
        unknown = [word for word in options if not any(name.startswith(word) for name in names)]
        found = [name for word in unknown for name in difflib.get_close_matches(word, names, 1)]
        if found:
            message = f"unrecognized arguments: {' '.join(unknown)}; did you mean "
            message += f"{' and '.join(found)}?"
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """All subcommands with their arguments."""
    parser = _Parser(
        prog="surefoot",
        description="Optimizers of TensorFlow Addons and tf.keras 2 for Keras 3: compare them\n"
        "with others on your model, and convert old checkpoints.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    subparsers = parser.add_subparsers(metavar="COMMAND")
    for name in _COMMANDS:
        importlib.import_module(name).add_parser(subparsers)
    parser.commands = subparsers.choices
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; by default those of the process.

    Returns:
        The exit status: 0 for success, 2 if the arguments cannot be used.
    """
    parser = build_parser()
    parsed = parser.parse_args(arguments)
    if parsed.version:
        from surefoot import __version__

        print(f"surefoot {__version__}")
        return 0
    if not hasattr(parsed, "run"):
        parser.print_help(sys.stderr)
        return 2
    try:
        return int(parsed.run(parsed))
    except ImportError:
        from surefoot.default_backend import missing_backend, what_to_install

        missing = missing_backend()
        if missing is None:
            raise
        print(f"surefoot: error: {what_to_install(missing)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
