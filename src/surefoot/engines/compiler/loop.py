"""An elementwise function as a loop over rows of arrays."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from importlib import resources
from string import Template
from typing import Any, NamedTuple

from surefoot.engines.compiler import llvm, symbols
from surefoot.engines.compiler.symbols import Language, LoopBuilder, Symbol
from surefoot.rule.rounding import Position

Array = Any

Elementwise = Callable[[Any, Sequence[Array], Sequence[Array], Position], list[Array]]
"""``function(xp, scalars, numbers, position)`` returns the new values of the first numbers."""

WORTH_A_THREAD = 1 << 19
"""Elements whose update takes ten times as long as the start of a thread."""

CHUNK = 1 << 17
"""Elements that a thread processes at a time, in about 50 microseconds."""

MOST_THREADS = 256


class Loop(NamedTuple):
    """A loop over the arrays of each row; it depends on the structure of a step alone.

    Attributes:
        function: The function of `symbols`, or of the arrays of a backend.
        dtype: In what it computes, float32 or float64.
        scalars: How many scalars it reads. They are of the same dtype.
        stored: The dtypes of the arrays of a row that it reads: that of the loop; bfloat16, to
            which nothing is rounded here: the function returns numbers that bfloat16 represents;
            or int16, numbers of which are int32 to the function.
        outputs: How many of these arrays it writes: the first ones.
        new: Positions of the outputs that are not written in place but to new arrays, which follow
            the inputs in a row.
        conditional: Whether a condition precedes the scalars: if it is 0, the loop does nothing.
        keyed: Whether it rounds at random, by keys of the rows.
    """

    function: Elementwise
    dtype: str
    scalars: int
    stored: tuple[str, ...]
    outputs: int
    new: tuple[int, ...] = ()
    conditional: bool = False
    keyed: bool = False

    @property
    def inputs(self) -> int:
        """How many arrays of a row it reads."""
        return len(self.stored)

    @property
    def arrays(self) -> int:
        """How many arrays a row has."""
        return self.inputs + len(self.new)

    def also_returning(self, inputs: int) -> Loop:
        """The same loop with the first ``inputs`` arrays as outputs, also those that it only reads.

        XLA then knows that a later write to them has to wait for this loop, and makes no copies.
        Nothing is written there.
        """
        function = _returning(self.function, self.outputs, inputs)
        return self._replace(function=function, outputs=max(self.outputs, inputs))

    def written_in(self, language: Language) -> tuple[LoopBuilder, list[Symbol]]:
        """The loop's instructions, and the results.

        The scalars are called s0, s1 and so on, the condition first, and the numbers x0, x1.
        """
        builder = LoopBuilder(self.dtype, language)
        first = int(self.conditional)
        scalars = [builder.scalar(f"s{first + i}") for i in range(self.scalars)]
        numbers = [
            builder.number(f"x{i}", "int32" if form == "int16" else None)
            for i, form in enumerate(self.stored)
        ]
        position = Position(builder.scalar("key", "int32"), builder.number("place", "int32"))
        return builder, self.function(symbols, scalars, numbers, position)

    def representation(self) -> str:
        """The loop in LLVM's intermediate representation: ``run``, and what it calls."""
        builder, results = self.written_in(llvm.REPRESENTATION)
        first = int(self.conditional)
        kind = builder.type
        loads = [
            line
            for i in range(first + self.scalars)
            for line in (
                f"%s{i}.at = getelementptr {kind}, ptr %scalars, i64 {i}",
                f"%s{i} = load {kind}, ptr %s{i}.at",
            )
        ]
        addresses = [
            line
            for i in range(self.arrays)
            for line in (
                f"%a{i}.at = getelementptr ptr, ptr %row, i64 {i}",
                f"%a{i} = load ptr, ptr %a{i}.at",
            )
        ]
        stored = [*self.stored, *(self.stored[place] for place in self.new)]
        reads = ["%place = trunc i64 %i to i32"]
        for i, form in enumerate(stored):
            reads.append(f"%p{i} = getelementptr {_KINDS.get(form, kind)}, ptr %a{i}, i64 %i")
            if i < self.inputs:
                reads += _read(f"%x{i}", f"%p{i}", form, kind)
        targets = {place: self.inputs + i for i, place in enumerate(self.new)}
        writes = [
            line
            for place, result in enumerate(results)
            if place in targets or result.name != f"%x{place}"
            for line in _written(result.name, f"%p{targets.get(place, place)}", stored[place], kind)
        ]
        scalars = [*loads, *_key(self.arrays), *builder.before_loop]
        return "".join(
            [
                _numbers(scalars, addresses, [*reads, *builder.in_loop, *writes], builder.flags),
                _text("operations.ll").substitute(
                    TYPE=kind,
                    BITS={"float": 32, "double": 64}[kind],
                    IDLE=_idle(kind) if self.conditional else "ret i1 false",
                    UNROLLED=", !3, !4" if llvm.has_wide_vectors() else "",
                ),
                _text("parallel_loop.ll").substitute(
                    ARRAYS=self.arrays,
                    WIDTH=self.arrays + 2,
                    CHUNK=CHUNK,
                    WORTH_A_THREAD=WORTH_A_THREAD,
                    MOST_THREADS=MOST_THREADS if llvm.has_threads() else 0,
                ),
            ]
        )


@functools.cache
def _returning(function: Elementwise, first: int, last: int) -> Elementwise:
    def with_inputs(
        xp: Any, scalars: Sequence[Array], numbers: Sequence[Array], position: Position
    ) -> list[Array]:
        return [*function(xp, scalars, numbers, position), *numbers[first:last]]

    return with_inputs


def _numbers(scalars: list[str], addresses: list[str], within: list[str], flags: list[str]) -> str:
    """The loop over the numbers of a row, twice if there are flags: see usual_numbers.ll."""

    def loop(name: str, assumed: list[str]) -> str:
        before = [*scalars, *(f"call void @llvm.assume(i1 {flag})" for flag in assumed), *addresses]
        return _text("numbers.ll").substitute(
            NAME=name, BEFORE=_block(before), WITHIN=_block(within)
        )

    if not flags:
        return loop("numbers", [])
    usual = [f"%usual.0 = and i1 {flags[0]}, true"]
    usual += [f"%usual.{i} = and i1 %usual.{i - 1}, {flag}" for i, flag in enumerate(flags) if i]
    usual.append(f"%usual = and i1 %usual.{len(flags) - 1}, true")
    choice = _text("usual_numbers.ll").substitute(BEFORE=_block(scalars), USUAL=_block(usual))
    return loop("usual_numbers", flags) + loop("other_numbers", []) + choice


_ACCESS = "!llvm.access.group !0"


_KINDS = {"bfloat16": "i16", "int16": "i16"}


def _read(name: str, place: str, form: str, kind: str) -> list[str]:
    """Read a number; one in bfloat16 is the upper half of a float32."""
    if form not in _KINDS:
        return [f"{name} = load {kind}, ptr {place}, {_ACCESS}"]
    half = f"{name}.half = load i16, ptr {place}, {_ACCESS}"
    if form == "int16":
        return [half, f"{name} = sext i16 {name}.half to i32"]
    return [
        half,
        f"{name}.wide = zext i16 {name}.half to i32",
        f"{name}.bits = shl i32 {name}.wide, 16",
        f"{name} = bitcast i32 {name}.bits to float",
    ]


def _written(name: str, place: str, form: str, kind: str) -> list[str]:
    """Write a number, of which bfloat16 takes the upper half."""
    if form not in _KINDS:
        return [f"store {kind} {name}, ptr {place}, {_ACCESS}"]
    own = place + ".new"
    store = f"store i16 {own}, ptr {place}, {_ACCESS}"
    if form == "int16":
        return [f"{own} = trunc i32 {name} to i16", store]
    return [
        f"{own}.bits = bitcast float {name} to i32",
        f"{own}.high = lshr i32 {own}.bits, 16",
        f"{own} = trunc i32 {own}.high to i16",
        store,
    ]


def _key(arrays: int) -> list[str]:
    """Read the key of a row, which is behind its addresses and its size."""
    return [
        f"%key.at = getelementptr i64, ptr %row, i64 {arrays + 1}",
        "%key.wide = load i64, ptr %key.at",
        "%key = trunc i64 %key.wide to i32",
    ]


class Obstacle(NamedTuple):
    """Why there are no loops.

    Attributes:
        reason: In words.
        is_only_missing: Whether there would be loops if llvmlite were installed.
    """

    reason: str
    is_only_missing: bool = False


def obstacle(backend: str, *others: Callable[[], str | None]) -> Obstacle | None:
    """Why no loop can run, or None.

    A program that is exported to other processes must not call into this one: with the
    environment variable SUREFOOT_LOOPS=0 all steps are left to the backend.

    Args:
        backend: Its name, which is that of the extra that has llvmlite.
        *others: Each returns another reason, or None. LLVM is checked last: where it is the reason,
            it is all that is missing.
    """
    if os.environ.get("SUREFOOT_LOOPS") == "0":
        return Obstacle("SUREFOOT_LOOPS=0 is set")
    for other in others:
        reason = other()
        if reason is not None:
            return Obstacle(reason)
    reason = llvm.obstacle()
    if reason is None:
        return None
    return Obstacle(f"{reason}: pip install 'surefoot[{backend}]'", is_only_missing=True)


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@functools.cache
def _text(name: str) -> Template:
    return Template(resources.files(__package__).joinpath(name).read_text("utf-8"))


def _block(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def _idle(kind: str) -> str:
    return _block(
        [
            f"%condition = load {kind}, ptr %scalars",
            f"%idle = fcmp oeq {kind} %condition, 0.0",
            "ret i1 %idle",
        ]
    ).strip()


def xla_handler(loop: Loop, version: int, thread_count: int) -> str:
    """The loop with the handler of XLA's foreign function interface that calls it.

    Args:
        loop: The loop. The handler's arguments are its scalars as a vector, the condition first,
            behind them for each row the upper and the lower half of its key if the loop is keyed,
            and row after row of arrays of one shape; its results are row after row of outputs.
        version: The version of the interface as XLA stores it: minor and major, four bytes each.
        thread_count: How many threads may share the work.
    """
    entries: list[str] = []
    flags = ["%fits"]

    def enter(name: str, array: str, base: str, index: int, call: str) -> None:
        entries.extend(
            [
                f"%{name}.place = add i64 {base}, {index}",
                f"%{name} = call ptr @pointer(ptr {array}, i64 %{name}.place)",
                f"%{name}.fits = call i1 {call}, ptr %{name})",
            ]
        )
        flags.append(f"%{name}.fits")

    for place in range(loop.inputs):
        enter(f"in{place}", "%arguments", "%inputs", place, f"@enter(ptr %here, i64 {place}")
    for place in range(loop.outputs):
        if place in loop.new:
            at = loop.inputs + loop.new.index(place)
            call = f"@enter(ptr %here, i64 {at}"
        else:
            call = f"@is_aliased(ptr %here, i64 {place}"
        enter(f"out{place}", "%results", "%outputs", place, call)
    total = flags[0]
    for i, flag in enumerate(flags[1:]):
        name = "%fits.next" if i == len(flags) - 2 else f"%fits.{i}"
        entries.append(f"{name} = and i1 {total}, {flag}")
        total = name
    return loop.representation() + _text("xla_handler.ll").substitute(
        ARRAYS=loop.arrays,
        WIDTH=loop.arrays + 2,
        ROW_BYTES=8 * (loop.arrays + 2),
        KEY=_block(_key_of_halves(loop)),
        INPUTS=loop.inputs,
        OUTPUTS=loop.outputs,
        VERSION=version,
        THREADS=thread_count,
        ENTRIES=_block(entries),
    )


def _key_of_halves(loop: Loop) -> list[str]:
    """Put the key of a row, given by two whole numbers, into the table."""
    target = f"%key.at = getelementptr i64, ptr %here, i64 {loop.arrays + 1}"
    if not loop.keyed:
        return [target, "store i64 0, ptr %key.at"]
    kind = llvm.REPRESENTATION.types[loop.dtype]
    first = int(loop.conditional) + loop.scalars
    return [
        target,
        "%high.number = shl i64 %number, 1",
        f"%high.place = add i64 %high.number, {first}",
        f"%high.at = getelementptr {kind}, ptr %scalars, i64 %high.place",
        f"%low.at = getelementptr {kind}, ptr %high.at, i64 1",
        f"%high.given = load {kind}, ptr %high.at",
        f"%low.given = load {kind}, ptr %low.at",
        f"%high = fptosi {kind} %high.given to i64",
        f"%low = fptosi {kind} %low.given to i64",
        "%high.shifted = shl i64 %high, 16",
        "%key = or i64 %high.shifted, %low",
        "store i64 %key, ptr %key.at",
    ]
