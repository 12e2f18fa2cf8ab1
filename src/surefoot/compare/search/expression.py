"""Optimizer expressions: `radam(beta_2=0.99)`, `lookahead(sgd(momentum=0.9))`, `adam+cosine`.

An expression is parsed without evaluating anything: arguments are literals or further expressions.
The names are looked up elsewhere (`registry` for optimizers, `schedule` for modifiers).
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from surefoot.compare.errors import UsageError

# A plain or dotted name, or `package.module:name` / `path/to/file.py:name`.
_HEAD = re.compile(r"[A-Za-z_][\w.\-]*|[^()'\"+,=]+:[A-Za-z_]\w*")
_CALL = re.compile(r"\s*(?P<head>[^()]+?)\s*(?:\((?P<body>.*)\)\s*)?", re.DOTALL)
_KEYWORD = re.compile(r"\s*(?P<key>[A-Za-z_]\w*)\s*=(?!=)(?P<value>.*)", re.DOTALL)
_OPENING, _CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class Call:
    """A name with its arguments; an argument is a literal or another `Call`."""

    name: str
    args: tuple[object, ...] = ()
    kwargs: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        shown = [_shown(value) for value in self.args]
        shown += [f"{key}={_shown(value)}" for key, value in self.kwargs]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


@dataclass(frozen=True)
class Expression:
    """An optimizer and the modifiers that change its learning rate over the run."""

    optimizer: Call
    modifiers: tuple[Call, ...] = ()

    def __str__(self) -> str:
        return "+".join(str(part) for part in (self.optimizer, *self.modifiers))


def parse(text: str) -> Expression:
    """Parse one optimizer expression.

    Args:
        text: The text, such as `"adam+warmup(0.1)+cosine"`.

    Returns:
        The expression; its names are not looked up yet.

    Raises:
        UsageError: If the text cannot be parsed.

    Example:
        >>> from surefoot.compare.search.expression import parse
        >>> expression = parse("radam(beta_2=0.99, total_steps=500) + cosine")
        >>> expression.optimizer.kwargs
        (('beta_2', 0.99), ('total_steps', 500))
        >>> str(expression)
        'radam(beta_2=0.99, total_steps=500)+cosine'
    """
    optimizer, *modifiers = (_parse_call(part, text) for part in _split(text, "+"))
    return Expression(optimizer, tuple(modifiers))


def parse_list(texts: list[str]) -> list[Expression]:
    """Parse expressions separated by spaces (one list entry each) or by commas."""
    return [parse(part) for text in texts for part in _split(text, ",")]


def _parse_call(text: str, whole: str) -> Call:
    match = _CALL.fullmatch(text)
    if match is None or _HEAD.fullmatch(match["head"]) is None:
        raise UsageError(
            f"cannot read the optimizer expression {whole.strip()!r}: expected a name, optionally "
            f"with arguments, like radam(beta_2=0.99) or adam+warmup(0.1). "
            f"Received: {text.strip()!r}"
        )
    args: list[object] = []
    kwargs: list[tuple[str, object]] = []
    body = match["body"] or ""
    for piece in _split(body, ",") if body.strip() else ():
        keyword = _KEYWORD.fullmatch(piece)
        if keyword is None:
            if kwargs:
                raise UsageError(
                    f"in {whole.strip()!r}, the argument {piece.strip()!r} follows a keyword "
                    f"argument; give it a keyword too"
                )
            args.append(_parse_value(piece, whole))
        elif any(keyword["key"] == key for key, _ in kwargs):
            raise UsageError(f"in {whole.strip()!r}, {keyword['key']} is given twice")
        else:
            kwargs.append((keyword["key"], _parse_value(keyword["value"], whole)))
    return Call(match["head"], tuple(args), tuple(kwargs))


def _parse_value(text: str, whole: str) -> object:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return _parse_call(text, whole)


def _split(text: str, separator: str) -> list[str]:
    """Split at the separators outside of brackets and quotes."""
    parts = [""]
    for character, is_top_level in _characters(text):
        if character == separator and is_top_level:
            parts.append("")
        else:
            parts[-1] += character
    if any(not part.strip() for part in parts):
        raise UsageError(
            f"cannot read {text.strip()!r}: a name is missing before or after a {separator!r}"
            if text.strip()
            else "an optimizer expression is empty"
        )
    return parts


def _characters(text: str) -> Iterator[tuple[str, bool]]:
    """Each character, and whether it is outside of brackets and quotes."""
    depth, quote = 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        if depth < 0:
            break
        yield character, depth == 0 and not quote
    if depth or quote:
        raise UsageError(f"cannot read {text.strip()!r}: its brackets or quotes do not match")


def _shown(value: object) -> str:
    return str(value) if isinstance(value, Call) else repr(value)
