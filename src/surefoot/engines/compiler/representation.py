"""A loop in LLVM's intermediate representation."""

from __future__ import annotations

import functools
import sys
from importlib import resources
from string import Template
from typing import Any, NamedTuple

from surefoot.engines.compiler import instructions, llvm
from surefoot.engines.compiler.builders import LoopBuilder, Symbol, UsualLoopBuilder
from surefoot.engines.compiler.instructions import TYPES, vector
from surefoot.engines.compiler.loop import Loop

WORTH_A_THREAD = 1 << 19
"""Elements whose update takes ten times as long as the start of a thread."""

CHUNK = 1 << 17
"""Elements that a thread processes at a time, in about 50 microseconds."""

MOST_THREADS = 256

UNUSUAL = 1 << 10
"""Elements that are processed one by one where one of them is unusual."""

AHEAD = 256
"""Bytes before an address at which it is fetched. In bfloat16 that is 3 % faster where memory is
fast; 512 and more were slower than no such request."""


def representation(loop: Loop) -> str:
    """A loop as text: ``run``, and what it calls.

    Its function is written twice: for usual numbers in vectors, and for all others. Both compute
    the same, to the last bit.
    """
    scalars = instructions.language()
    each = LoopBuilder(loop.dtype, scalars)
    lanes = llvm.lanes() * _SIZES["float32"] // _SIZES[loop.dtype]
    usual = UsualLoopBuilder(loop.dtype, instructions.language(lanes), scalars)
    results = loop.written_by(usual)
    are_usual = _are_usual(usual.usual(), lanes)
    idle = [
        f"%condition = load {TYPES[loop.dtype]}, ptr %scalars",
        f"%idle = fcmp oeq {TYPES[loop.dtype]} %condition, 0.0",
        "ret i1 %idle",
    ]
    return "\n".join(
        [
            text("each_number.ll", **_parts(loop, each, loop.written_by(each), 1)),
            text(
                "usual_vectors.ll",
                LANES=lanes,
                USUAL=are_usual,
                DECLARATIONS=_declarations(loop.dtype, lanes),
                **_parts(loop, usual, results, lanes),
            ),
            text(
                "numbers.ll",
                BEFORE=_scalars(loop, usual),
                USUAL=all_hold("%usual", usual.flags),
                UNUSUAL=UNUSUAL,
            ),
            text(
                "parallel_loop.ll",
                IDLE=idle if loop.conditional else ["ret i1 false"],
                ARRAYS=loop.arrays,
                WIDTH=loop.arrays + 2,
                CHUNK=CHUNK,
                WORTH_A_THREAD=WORTH_A_THREAD,
                MOST_THREADS=MOST_THREADS if llvm.has_threads() else 0,
            ),
        ]
    )


def text(name: str, **parts: Any) -> str:
    """A text of this folder, filled in with words, and with instructions, a line each."""
    blocks = {
        key: "\n".join(f"  {line}" for line in part) if isinstance(part, list) else part
        for key, part in parts.items()
    }
    return _template(name).substitute(blocks)


@functools.cache
def _template(name: str) -> Template:
    return Template(resources.files(__package__).joinpath(name).read_text("utf-8"))


def _parts(
    loop: Loop, builder: LoopBuilder, results: list[Symbol], lanes: int
) -> dict[str, list[str]]:
    """The parts of the text of a loop that takes so many numbers at a time."""
    results = list(map(builder.spread, results))
    stored = [*loop.stored, *(loop.stored[place] for place in loop.new)]
    arrays = [_Array(f"%p{i}", form, lanes) for i, form in enumerate(stored)]
    places = {place: loop.inputs + i for i, place in enumerate(loop.new)}
    targets = [arrays[places.get(place, place)] for place in range(len(results))]
    return {
        "BEFORE": [
            *_scalars(loop, builder),
            *(line for i in range(loop.arrays) for line in _entry(f"%a{i}", "ptr", "%row", i)),
        ],
        "READ": [
            *_place(lanes),
            *(line for i, array in enumerate(arrays) for line in array.found(f"%a{i}")),
            *(line for i in range(loop.inputs) for line in arrays[i].read(f"%x{i}")),
        ],
        "WITHIN": builder.in_loop,
        "WRITE": [
            line
            for place, (target, result) in enumerate(zip(targets, results, strict=True))
            if place in places or result.name != f"%x{place}"
            for line in target.written(result)
        ],
    }


def _scalars(loop: Loop, builder: LoopBuilder) -> list[str]:
    """Read the scalars and the key of a row, which is behind its addresses and its size."""
    kind = TYPES[loop.dtype]
    scalars = range(int(loop.conditional) + loop.scalars)
    return [
        *(line for i in scalars for line in _entry(f"%s{i}", kind, "%scalars", i)),
        *_entry("%key.wide", "i64", "%row", loop.arrays + 1),
        "%key = trunc i64 %key.wide to i32",
        *builder.before_loop,
    ]


def _entry(name: str, kind: str, array: str, place: int) -> list[str]:
    """Read an entry of an array."""
    return [
        f"{name}.at = getelementptr {kind}, ptr {array}, i64 {place}",
        f"{name} = load {kind}, ptr {name}.at",
    ]


def all_hold(name: str, flags: list[str]) -> list[str]:
    """A flag of that name: whether all of these hold."""
    total, lines = "true", []
    for i, flag in enumerate(flags):
        lines.append(f"{name}.{i} = and i1 {total}, {flag}")
        total = f"{name}.{i}"
    return [*lines, f"{name} = and i1 {total}, true"]


def _are_usual(numbers: Symbol | None, lanes: int) -> list[str]:
    """Whether all numbers of a vector are."""
    if numbers is None:
        return all_hold("%usual", [])
    flags = vector(TYPES["bool"], lanes)
    return [f"%usual = call i1 @llvm.vector.reduce.and.v{lanes}i1({flags} {numbers.name})"]


def _place(lanes: int) -> list[str]:
    """The places of the numbers in their array."""
    if lanes == 1:
        return ["%place = trunc i64 %i to i32"]
    kind = vector("i32", lanes)
    following = ", ".join(f"i32 {n}" for n in range(lanes))
    return [
        "%place.scalar = trunc i64 %i to i32",
        *instructions.spread(lanes, "%place.spread", "%place.scalar", "i32"),
        f"%place = add {kind} %place.spread, <{following}>",
    ]


_SIZES = {"bfloat16": 2, "int16": 2, "float32": 4, "float64": 8}


class _Array(NamedTuple):
    """How numbers of an array are read and written.

    Attributes:
        place: The name of their address.
        form: The dtype in which they are stored.
        lanes: How many there are.
    """

    place: str
    form: str
    lanes: int

    @property
    def _kind(self) -> str:
        return TYPES.get(self.form, "i16")

    def _many(self, kind: str) -> str:
        return vector(kind, self.lanes)

    @property
    def _at(self) -> str:
        group = ", !llvm.access.group !0" if self.lanes == 1 else ""
        return f"ptr {self.place}, align {_SIZES[self.form]}{group}"

    def found(self, array: str) -> list[str]:
        """The address; what follows behind it is asked for, by lines of the cache of 64 bytes."""
        lines = [f"{self.place} = getelementptr {self._kind}, ptr {array}, i64 %i"]
        if self.lanes == 1:
            return lines
        for i, at in enumerate(range(0, self.lanes * _SIZES[self.form], 64)):
            ahead = f"{self.place}.{i}"
            lines.append(f"{ahead} = getelementptr i8, ptr {self.place}, i64 {AHEAD + at}")
            lines.append(f"call void @llvm.prefetch.p0(ptr {ahead}, i32 0, i32 3, i32 1)")
        return lines

    def read(self, name: str) -> list[str]:
        """Read numbers; those in bfloat16 are upper halves of float32."""
        load = f"load {self._many(self._kind)}, {self._at}"
        if self._kind != "i16":
            return [f"{name} = {load}"]
        halves, wide = self._many("i16"), self._many("i32")
        if self.form == "int16":
            return [f"{name}.half = {load}", f"{name} = sext {halves} {name}.half to {wide}"]
        shift = "16" if self.lanes == 1 else "splat (i32 16)"
        return [
            f"{name}.half = {load}",
            f"{name}.wide = zext {halves} {name}.half to {wide}",
            f"{name}.bits = shl {wide} {name}.wide, {shift}",
            f"{name} = bitcast {wide} {name}.bits to {self._many('float')}",
        ]

    def written(self, number: Symbol) -> list[str]:
        """Write numbers, of which bfloat16 takes the upper half."""
        if self._kind != "i16":
            return [f"store {self._many(self._kind)} {number.name}, {self._at}"]
        own = self.place + ".new"
        halves, wide = self._many("i16"), self._many("i32")
        store = f"store {halves} {own}, {self._at}"
        if self.form == "int16":
            return [f"{own} = trunc {wide} {number.name} to {halves}", store]
        if self.lanes == 1:
            return [
                f"{own}.bits = bitcast float {number.name} to i32",
                f"{own}.high = lshr i32 {own}.bits, 16",
                f"{own} = trunc i32 {own}.high to i16",
                store,
            ]
        both = vector("i16", 2 * self.lanes)
        first = 1 if sys.byteorder == "little" else 0
        every_second = ", ".join(f"i32 {2 * n + first}" for n in range(self.lanes))
        return [
            f"{own}.halves = bitcast {self._many('float')} {number.name} to {both}",
            f"{own} = shufflevector {both} {own}.halves, {both} poison, {wide} <{every_second}>",
            store,
        ]


def _declarations(dtype: str, lanes: int) -> str:
    lines = [f"declare i1 @llvm.vector.reduce.and.v{lanes}i1({vector('i1', lanes)})"]
    for many in (1, lanes):
        kind, end = vector(TYPES[dtype], many), instructions.suffix(dtype, many)
        lines += [
            f"declare {kind} @llvm.{name}.{end}({', '.join([kind] * operands)})"
            for name, operands in (("fabs", 1), ("sqrt", 1), ("fmuladd", 3))
        ]
    return "\n".join(lines)
