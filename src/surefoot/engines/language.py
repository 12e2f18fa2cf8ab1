"""A few words of Python as LLVM's language.

A function takes and returns words of eight bytes, integers or addresses, and computes with words,
booleans and floats, a variable keeping the type it is first given. There are assignments, ``if``,
``while``, ``for`` over ``range``, ``return`` and calls: of the functions of the same source, of
foreign ones, and of these:

* ``load(address, place)``, ``load_float32``, ``load_float64``: what is at a place, counted in
  items of its size, behind an address;
* ``store(address, place, value)``: write a word or float there;
* ``fetch_add(address, place, value)``: add to a word there what no other thread adds at the same
  time; it was that before;
* ``float32(x)``, ``float64(x)``: a float as another;
* ``abs``, ``sqrt``, ``min``, ``max``;
* ``together(first, last)`` in place of ``range``: no iteration reads what another writes, so that
  several may run at once; products and sums may be rounded once, as XLA does.

Both sides of a conditional expression are computed, and there is no ``and`` or ``or``, but ``&``
and ``|``.
"""

from __future__ import annotations

import ast
import ctypes
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

WORD = ctypes.c_int64

_FLOATS = {"float32": "float", "float64": "double"}

_WORD_OPERATIONS: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.FloorDiv: "sdiv",  # equal where nothing is negative
    ast.LShift: "shl",
    ast.Mult: "mul",
    ast.RShift: "lshr",
    ast.Sub: "sub",
}

_FLOAT_OPERATIONS: dict[type[ast.operator], str] = {
    ast.Add: "fadd",
    ast.Div: "fdiv",
    ast.Mult: "fmul",
    ast.Sub: "fsub",
}

_WORD_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "icmp eq",
    ast.Gt: "icmp sgt",
    ast.GtE: "icmp sge",
    ast.Lt: "icmp slt",
    ast.LtE: "icmp sle",
    ast.NotEq: "icmp ne",
}

_FLOAT_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "fcmp oeq",
    ast.Gt: "fcmp ogt",
    ast.GtE: "fcmp oge",
    ast.Lt: "fcmp olt",
    ast.LtE: "fcmp ole",
    ast.NotEq: "fcmp une",
}


def address_of(function: Any) -> int:
    """Where a function is that `ctypes` has found."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class Foreign(NamedTuple):
    """A function of C: its address, and what it returns and takes, by LLVM's names of types."""

    address: int
    result: str
    arguments: tuple[str, ...]

    @classmethod
    def of(cls, function: Any) -> Foreign:
        """A function found by `ctypes`, whose types have been declared."""
        names = {None: "void", ctypes.c_int: "i32", WORD: "i64", ctypes.c_double: "double"}
        return cls(
            address_of(function),
            names[function.restype],
            tuple(names[t] for t in function.argtypes),
        )


def translated(source: str, constants: Mapping[str, int], foreign: Mapping[str, Foreign]) -> str:
    """The functions of a source in LLVM's language.

    Args:
        source: Their definitions, in the language of this module.
        constants: Words that they may name.
        foreign: Functions of C that they may call by these names.

    Raises:
        SyntaxError: If the source holds what the language has not.
    """
    definitions = [d for d in ast.parse(source).body if isinstance(d, ast.FunctionDef)]
    known = _Known({d.name for d in definitions}, constants, foreign)
    return "\n".join([*(_Function(d, known).text() for d in definitions), _DECLARATIONS])


_DECLARATIONS = """
declare float @llvm.sqrt.f32(float)
declare double @llvm.sqrt.f64(double)
declare float @llvm.fabs.f32(float)
declare double @llvm.fabs.f64(double)
!0 = distinct !{}
!1 = distinct !{!1, !2}
!2 = !{!"llvm.loop.parallel_accesses", !0}
"""
"""The last lines say which accesses do not depend on each other, and the loop of which."""


class _Known(NamedTuple):
    """What a function may name."""

    functions: set[str]
    constants: Mapping[str, int]
    foreign: Mapping[str, Foreign]


class _Value(NamedTuple):
    """An operand: its type, and what it is called."""

    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


class _Function:
    """A function on its way to LLVM's language, where each result has a name of its own."""

    def __init__(self, definition: ast.FunctionDef, known: _Known) -> None:
        self._known = known
        self._places: dict[str, str] = {}
        self._lines: list[str] = []
        self._count = 0
        self._together = False
        self._ended = False
        arguments = [argument.arg for argument in definition.args.args]
        self._head = ", ".join(f"i64 %argument.{name}" for name in arguments)
        self._name = definition.name
        for name in arguments:
            self._assign(name, _Value("i64", f"%argument.{name}"))
        self._block(definition.body)
        if not self._ended:
            self._emit("ret i64 0")

    def text(self) -> str:
        """The definition in LLVM's language."""
        # Room for all variables first; LLVM makes registers of them.
        room = [f"%{name} = alloca {kind}" for name, kind in self._places.items()]
        body = "\n  ".join([*room, *self._lines])
        return f"define i64 @{self._name}({self._head}) {{\n  {body}\n}}"

    def _emit(self, line: str) -> None:
        self._lines.append(line)

    def _result(self, kind: str, expression: str) -> _Value:
        self._count += 1
        name = f"%t.{self._count}"
        self._emit(f"{name} = {expression}")
        return _Value(kind, name)

    # Statements.

    def _block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._assign(name, self._value(value))
                case ast.Assign(targets=[ast.Tuple(names)], value=ast.Tuple(values)):
                    found = [self._value(value) for value in values]
                    for target, new in zip(names, found, strict=True):
                        self._assign(_name(target), new)
                case ast.AugAssign(target=ast.Name(id=name) as target, op=op, value=value):
                    old = self._value(ast.Name(target.id, ast.Load()))
                    self._assign(name, self._combined(op, old, self._value(value)))
                case ast.For(target=ast.Name(id=name), iter=ast.Call() as steps, body=body):
                    self._for(name, steps, body)
                case ast.While(test=test, body=body):
                    self._while(test, body)
                case ast.If(test=test, body=body, orelse=otherwise):
                    self._if(test, body, otherwise)
                case ast.Return(value=ast.expr() as value):
                    self._end(f"ret {self._value(value)}")
                case ast.Expr(value=ast.Call() as call):
                    self._value(call)
                case _:
                    raise SyntaxError(ast.unparse(statement))

    def _assign(self, name: str, value: _Value) -> None:
        if self._places.setdefault(name, value.type) != value.type:
            raise SyntaxError(f"{name} is {self._places[name]}. Received: {value}")
        self._emit(f"store {value}, ptr %{name}")

    def _end(self, line: str) -> None:
        """Leave a block."""
        self._emit(line)
        self._ended = True

    def _label(self) -> str:
        self._count += 1
        return f"block.{self._count}"

    def _begin(self, label: str) -> None:
        """Start a block, to which the one before goes on."""
        if not self._ended:
            self._emit(f"br label %{label}")
        self._emit(f"{label}:")
        self._ended = False

    def _if(self, test: ast.expr, body: list[ast.stmt], otherwise: list[ast.stmt]) -> None:
        condition = self._value(test)
        then, other, after = self._label(), self._label(), self._label()
        self._end(f"br {condition}, label %{then}, label %{other}")
        for label, statements in ((then, body), (other, otherwise)):
            self._begin(label)
            self._block(statements)
            if not self._ended:
                self._end(f"br label %{after}")
        self._begin(after)

    def _while(self, test: ast.expr, body: list[ast.stmt]) -> None:
        head, inside, after = self._label(), self._label(), self._label()
        self._begin(head)
        self._end(f"br {self._value(test)}, label %{inside}, label %{after}")
        self._begin(inside)
        self._block(body)
        self._end(f"br label %{head}")
        self._begin(after)

    def _for(self, name: str, steps: ast.Call, body: list[ast.stmt]) -> None:
        bounds = [self._value(argument) for argument in steps.args]
        first, last = bounds if len(bounds) > 1 else (_Value("i64", "0"), *bounds)
        head, inside, after = self._label(), self._label(), self._label()
        self._assign(name, first)
        self._begin(head)
        place = self._result("i64", f"load i64, ptr %{name}")
        more = self._result("i1", f"icmp slt {place}, {last.name}")
        self._end(f"br {more}, label %{inside}, label %{after}")
        self._begin(inside)
        self._together = _name(steps.func) == "together"
        self._block(body)
        self._assign(name, self._result("i64", f"add i64 {place.name}, 1"))
        self._end(f"br label %{head}" + (", !llvm.loop !1" if self._together else ""))
        self._together = False
        self._begin(after)

    # Expressions.

    def _value(self, expression: ast.expr) -> _Value:  # noqa: PLR0911 - a line for each kind
        match expression:
            case ast.Constant(value=bool(value)):
                return _Value("i1", str(value).lower())
            case ast.Constant(value=int(value)):
                return _Value("i64", str(value))
            case ast.Constant(value=float(value)):
                return _constant(value)
            case ast.Name(id=name):
                return self._named(name)
            case ast.BinOp(left=left, op=op, right=right):
                return self._combined(op, self._value(left), self._value(right))
            case ast.UnaryOp(op=op, operand=operand):
                return self._changed(op, self._value(operand))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self._compared(op, self._value(left), self._value(right))
            case ast.IfExp(test=test, body=body, orelse=other):
                return self._selected(*map(self._value, (test, body, other)))
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self._called(name, [self._value(argument) for argument in arguments])
        raise SyntaxError(ast.unparse(expression))

    def _named(self, name: str) -> _Value:
        if name in self._places:
            kind = self._places[name]
            return self._result(kind, f"load {kind}, ptr %{name}")
        if name in self._known.constants:
            return _Value("i64", str(self._known.constants[name]))
        if name in self._known.functions:
            return _Value("i64", f"ptrtoint (ptr @{name} to i64)")
        if name in ("inf", "nan"):
            return _constant(float(name))
        raise SyntaxError(f"{name} is not known")

    def _combined(self, op: ast.operator, left: _Value, right: _Value) -> _Value:
        if _is_float(_common(left, right)):
            contract = " contract" if self._together else ""
            operation = _listed(_FLOAT_OPERATIONS, type(op)) + contract
        else:
            operation = _listed(_WORD_OPERATIONS, type(op))
        return self._result(left.type, f"{operation} {left}, {right.name}")

    def _changed(self, op: ast.unaryop, operand: _Value) -> _Value:
        if isinstance(op, ast.USub) and _is_float(operand.type):
            return self._result(operand.type, f"fneg {operand}")
        if isinstance(op, ast.USub):
            return self._result(operand.type, f"sub {operand.type} 0, {operand.name}")
        return self._result(operand.type, f"xor {operand}, -1")  # not, and ~

    def _compared(self, op: ast.cmpop, left: _Value, right: _Value) -> _Value:
        comparisons = _FLOAT_COMPARISONS if _is_float(_common(left, right)) else _WORD_COMPARISONS
        return self._result("i1", f"{_listed(comparisons, type(op))} {left}, {right.name}")

    def _selected(self, flag: _Value, left: _Value, right: _Value) -> _Value:
        return self._result(_common(left, right), f"select {flag}, {left}, {right}")

    def _called(self, name: str, arguments: list[_Value]) -> _Value:
        builtin: Callable[..., _Value] | None = getattr(self, f"_call_{name}", None)
        if builtin is not None:
            return builtin(*arguments)
        if name in _FLOATS:
            return self._converted(arguments[0], _FLOATS[name])
        if name in self._known.functions:
            given = ", ".join(map(str, arguments))
            return self._result("i64", f"call i64 @{name}({given})")
        if name in self._known.foreign:
            return self._foreign(self._known.foreign[name], arguments)
        raise SyntaxError(f"{name} is not known")

    def _converted(self, value: _Value, kind: str) -> _Value:
        if value.type == kind:
            return value
        conversion = _listed({"float": "fpext", "double": "fptrunc"}, value.type)
        return self._result(kind, f"{conversion} {value} to {kind}")

    def _foreign(self, function: Foreign, arguments: list[_Value]) -> _Value:
        pairs = list(zip(arguments, function.arguments, strict=True))
        given = [
            self._result("i32", f"trunc {value} to i32") if kind == "i32" else value
            for value, kind in pairs
        ]
        if function.result == "double":
            given = [self._converted(value, "double") for value in given]
        operands = ", ".join(map(str, given))
        call = f"call {function.result} inttoptr (i64 {function.address} to ptr)({operands})"
        if function.result == "void":
            self._emit(call)
            return _Value("i64", "0")
        result = self._result(function.result, call)
        if function.result == "double":
            return self._converted(result, arguments[0].type)
        return self._result("i64", f"sext {result} to i64") if result.type == "i32" else result

    # What a source calls by these names.

    def _at(self, kind: str, address: _Value, place: _Value) -> str:
        pointer = self._result("ptr", f"inttoptr {address} to ptr")
        return str(self._result("ptr", f"getelementptr {kind}, {pointer}, {place}"))

    def _loaded(self, kind: str, address: _Value, place: _Value) -> _Value:
        return self._result(kind, f"load {kind}, {self._at(kind, address, place)}{self._group()}")

    def _group(self) -> str:
        return ", !llvm.access.group !0" if self._together else ""

    def _call_load(self, address: _Value, place: _Value) -> _Value:
        return self._loaded("i64", address, place)

    def _call_load_float32(self, address: _Value, place: _Value) -> _Value:
        return self._loaded("float", address, place)

    def _call_load_float64(self, address: _Value, place: _Value) -> _Value:
        return self._loaded("double", address, place)

    def _call_store(self, address: _Value, place: _Value, value: _Value) -> _Value:
        self._emit(f"store {value}, {self._at(value.type, address, place)}{self._group()}")
        return value

    def _call_fetch_add(self, address: _Value, place: _Value, value: _Value) -> _Value:
        return self._result(
            "i64", f"atomicrmw add {self._at('i64', address, place)}, {value} monotonic"
        )

    def _call_min(self, left: _Value, right: _Value) -> _Value:
        return self._selected(self._compared(ast.Lt(), left, right), left, right)

    def _call_max(self, left: _Value, right: _Value) -> _Value:
        return self._selected(self._compared(ast.Gt(), left, right), left, right)

    def _call_abs(self, value: _Value) -> _Value:
        return self._intrinsic("fabs", value)

    def _call_sqrt(self, value: _Value) -> _Value:
        return self._intrinsic("sqrt", value)

    def _intrinsic(self, name: str, value: _Value) -> _Value:
        size = _listed({"float": "32", "double": "64"}, value.type)
        return self._result(value.type, f"call {value.type} @llvm.{name}.f{size}({value})")


def _listed(instructions: Mapping[Any, str], kind: Any) -> str:
    if kind not in instructions:
        raise SyntaxError(f"There is nothing for {kind}, but for {list(instructions)}")
    return instructions[kind]


def _is_float(kind: str) -> bool:
    return kind in _FLOATS.values()


def _common(left: _Value, right: _Value) -> str:
    if left.type != right.type:
        raise SyntaxError(f"Two types where one is needed. Received: {left} and {right}")
    return left.type


def _constant(value: float) -> _Value:
    return _Value("double", f"0x{struct.pack('>d', value).hex()}")


def _name(expression: ast.expr) -> str:
    if not isinstance(expression, ast.Name):
        raise SyntaxError(ast.unparse(expression))
    return expression.id
