"""Looks up the names in optimizer expressions.

A name without a dot is surefoot's optimizer if surefoot has one of that name, otherwise Keras's:
`nadam` is `surefoot.Nadam` (what tf.keras 2 computed) and `keras.nadam` is Keras's own. Case,
`_` and `-` do not matter. One that needs more than a learning rate, such as `surefoot.AdamW`,
leaves the short name to Keras's. `package.module:name` and `file.py:name` are the user's own
callables: they take `learning_rate=...` and return a Keras optimizer.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

import surefoot
from surefoot.arguments.importing import import_object
from surefoot.base.averaging import AveragingOptimizer
from surefoot.compare.errors import UsageError
from surefoot.compare.search.expression import Call, Expression
from surefoot.compare.search.schedule import Schedule
from surefoot.compare.search.space import Axis


def _is_comparable(optimizer: type) -> bool:
    """Whether there is one learning rate to vary, and weights that others do not have.

    An average changes nothing in the training of the optimizer inside, whose weights are compared.
    """
    has_rate = {"learning_rate", "optimizer"} & inspect.signature(optimizer).parameters.keys()
    return bool(has_rate) and not issubclass(optimizer, AveragingOptimizer)


_OURS = [name for name in surefoot.optimizers.__all__ if _is_comparable(getattr(surefoot, name))]
_SHORT = {"radam": "rectifiedadam"}


@dataclass(frozen=True)
class Recipe:
    """An optimizer expression with its names looked up.

    Args:
        label: Its name in tables and charts.
        factory: Creates a new optimizer for a learning rate, and other hyperparameters by name.
        schedule: How its learning rate changes over the run.
        has_own_schedule: Whether the expression says that, and not `--schedule`.
        counts_steps: Whether the optimizer does it itself, by a number of steps.
        varied: The names of further hyperparameters that are searched and that it has.
        is_resettable: Whether all state of such an optimizer is in Keras variables, so that a
            compiled one can be reset instead of being compiled again.
    """

    label: str
    factory: Callable[..., Any]
    schedule: Schedule
    has_own_schedule: bool
    counts_steps: bool
    varied: tuple[str, ...]
    is_resettable: bool


def resolve(
    expression: Expression, schedule: str = "constant", varied: Sequence[Axis] = ()
) -> Recipe:
    """Look up the names of an expression and create the optimizer once to check it.

    Args:
        expression: The optimizer with its modifiers.
        schedule: What `--schedule` says, for optimizers of which nothing else is said.
        varied: Ranges of further hyperparameters.

    Raises:
        UsageError: If a name is unknown or the optimizer cannot be created.
    """
    given = Schedule.of(expression.modifiers)
    call = expression.optimizer

    def factory(learning_rate: float, **others: float) -> Any:
        return _make(call, learning_rate, others)

    def takes(axis: Axis) -> bool:
        try:
            factory(1e-3, **{axis.name: axis.low})
        except UsageError:
            return False
        return True

    optimizer = factory(1e-3)
    scheduled = _schedules_itself(optimizer)
    if scheduled and not given.is_identity:
        raise UsageError(
            f"{call} has a schedule of its own, and {expression} would change its learning rate; "
            f"leave out one of the two"
        )
    label = "+".join([_label(call), *map(str, expression.modifiers)])
    own = not type(optimizer).__module__.startswith(("keras.", "surefoot.")) or ":" in str(call)
    return Recipe(
        label,
        factory,
        schedule=given if scheduled else given.or_default(schedule),
        has_own_schedule=scheduled or given.is_chosen,
        counts_steps=scheduled,
        varied=tuple(axis.name for axis in varied if takes(axis)),
        is_resettable=not own,
    )


def _schedules_itself(optimizer: Any) -> bool:
    """Whether the learning rate is a schedule, or the optimizer's arguments make one of it."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    is_number = isinstance(optimizer._learning_rate, keras.Variable)
    return not is_number or bool(getattr(optimizer, "total_steps", 0))


def _make(call: Call, learning_rate: float, others: Mapping[str, float]) -> Any:
    target = _look_up(call.name)
    accepted = inspect.signature(target).parameters
    if "learning_rate" in dict(call.kwargs):
        raise UsageError(
            f"compare varies the learning rate of {call}: leave it out and use "
            f"--learning-rates, or scale it, like {call.name}+scale(0.5)"
        )
    inner = [
        value for value in (*call.args, *dict(call.kwargs).values()) if isinstance(value, Call)
    ]
    args = [_argument(value, learning_rate, others) for value in call.args]
    kwargs = {key: _argument(value, learning_rate, others) for key, value in call.kwargs}
    if not inner:
        if "learning_rate" not in accepted:
            raise UsageError(
                f"{call} has no learning rate of its own; give it the optimizer to wrap, "
                f"like {call.name}(adam)"
            )
        if args and next(iter(accepted)) == "learning_rate":
            raise UsageError(
                f"in {call}, the first argument would be the learning rate, which compare varies; "
                f"give arguments by name"
            )
        fixed = sorted(kwargs.keys() & others)
        if fixed:
            raise UsageError(f"{call} has a fixed {', '.join(fixed)}, which cannot vary")
        kwargs |= {"learning_rate": learning_rate, **others}
    try:
        optimizer = target(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise UsageError(f"cannot create the optimizer {call}: {_one_line(error)}") from None
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise UsageError(
            f"{call} returned a {type(optimizer).__name__}; a keras.optimizers.Optimizer is needed"
        )
    return optimizer


def _argument(value: object, learning_rate: float, others: Mapping[str, float]) -> object:
    if not isinstance(value, Call):
        return value
    try:
        return _make(value, learning_rate, others)
    except UsageError as error:
        quoting = "" if value.args or value.kwargs else "; if it is text, put it in quotes"
        raise UsageError(f"{error}{quoting}") from None


def _look_up(name: str) -> Any:
    if ":" in name:
        return import_object(name, "an optimizer", UsageError)
    names = {f"keras.{key}": value for key, value in _keras_optimizers().items()}
    names |= _keras_optimizers()
    for ours in _OURS:
        names[f"surefoot.{ours.lower()}"] = optimizer = getattr(surefoot, ours)
        if ours.lower() not in names or _needs_only_a_rate(optimizer):
            names[ours.lower()] = optimizer
    for short, full in _SHORT.items():
        names[short] = names[f"surefoot.{short}"] = names[full]
    key = name.replace("_", "").replace("-", "").lower()
    if key not in names:
        close = difflib.get_close_matches(key, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        plain = ", ".join(sorted(each for each in names if "." not in each))
        raise UsageError(
            f"unknown optimizer {name!r}.{hint} Known are {plain}; keras.NAME for Keras's own of "
            f"that name; and package.module:name or file.py:name for yours"
        )
    return names[key]


def _needs_only_a_rate(optimizer: Any) -> bool:
    parameters = inspect.signature(optimizer).parameters.values()
    return not any(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters)


def _keras_optimizers() -> dict[str, Any]:
    base = keras.optimizers.Optimizer
    return {
        name.lower(): value
        for name, value in vars(keras.optimizers).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base
    }


def _label(call: Call) -> str:
    """The expression with class names, and `keras.` before Keras's where surefoot has the same."""

    def named(value: object) -> object:
        return Call(_label(value)) if isinstance(value, Call) else value

    target = _look_up(call.name)
    name = call.name
    if ":" not in name:
        is_ambiguous = target.__module__.startswith("keras.") and target.__name__ in _OURS
        name = f"keras.{target.__name__}" if is_ambiguous else target.__name__
    args = tuple(named(value) for value in call.args)
    return str(Call(name, args, tuple((key, named(value)) for key, value in call.kwargs)))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
