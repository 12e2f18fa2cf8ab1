"""Compiled programs on JAX, shared by optimizers whose steps are the same program.

XLA takes longer to compile a step than JAX takes to trace it, and keeps some of the memory that
it used. Two steps with the same text differ only in the values that they are given.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from typing import Any

import jax

from surefoot.engines.compiler.llvm import LOCK

MOST_KEPT = 32
_kept: OrderedDict[bytes, Any] = OrderedDict()


def compiled(function: Any, *arguments: Any) -> Any:
    """The jitted ``function``, compiled for ``arguments`` or already for another optimizer.

    Args:
        function: A jitted function with ``keep_unused=True``.
        arguments: Arrays of the only device.
    """
    lowered = function.lower(*arguments)
    leaves = jax.tree.leaves(arguments)
    text = lowered.as_text()
    if not _says_all(text, leaves):
        return lowered.compile()
    layout = str((lowered.in_tree, lowered.out_tree, leaves[0].sharding))
    key = hashlib.sha256(f"{layout}{text}".encode()).digest()
    with LOCK:
        if key not in _kept:
            _kept[key] = lowered.compile()
            if len(_kept) > MOST_KEPT:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        return _kept[key]


def _says_all(text: str, leaves: list[Any]) -> bool:
    """Whether the text of a program is all that it computes from its arguments.

    A program may call functions of Python, or be given arrays that it closes over as further
    arguments.
    """
    main = re.search(r"@main\((.*)", text)
    given = len(re.findall(r"%arg\d+: ", main[1])) if main else -1
    return "callback" not in text and given == len(leaves)
