"""Optimizer expressions and learning rates as they are typed."""

import math

import pytest

import surefoot
from surefoot.compare import UsageError
from surefoot.compare.search.expression import Call, parse, parse_list
from surefoot.compare.search.learning_rates import parse_learning_rates
from surefoot.compare.search.registry import resolve
from surefoot.compare.search.schedule import Schedule

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("text", "optimizer", "modifiers"),
    [
        ("adam", Call("adam"), ()),
        (" radam ( beta_2 = 0.99 ) ", Call("radam", (), (("beta_2", 0.99),)), ()),
        ("sgd(momentum=-1e+3)", Call("sgd", (), (("momentum", -1000.0),)), ()),
        (
            "adam+warmup(0.1)+cosine",
            Call("adam"),
            (Call("warmup", (0.1,)), Call("cosine")),
        ),
        (
            "lookahead(sgd(momentum=0.9), sync_period=5)",
            Call("lookahead", (Call("sgd", (), (("momentum", 0.9),)),), (("sync_period", 5),)),
            (),
        ),
        (
            "a.b:C(x='+,)', y=[1, (2, None)])",
            Call("a.b:C", (), (("x", "+,)"), ("y", [1, (2, None)]))),
            (),
        ),
        ("some/dir/my-file.py:make", Call("some/dir/my-file.py:make"), ()),
        ("keras.nadam", Call("keras.nadam"), ()),
    ],
)
def test_expressions_are_read_and_written_back(text, optimizer, modifiers):
    expression = parse(text)
    assert expression.optimizer == optimizer
    assert expression.modifiers == modifiers
    assert parse(str(expression)) == expression


@pytest.mark.parametrize("name", ["swa", "movingaverage"])
def test_averages_of_a_training_are_no_other_training(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown optimizer '{name}'"):
        resolve(parse(f"{name}(adam)"))
    assert isinstance(resolve(parse("lookahead(adam)")).factory(0.1), surefoot.Lookahead)


def test_lists_are_split_at_commas_outside_brackets_only():
    expressions = parse_list(["adam,radam(beta_1=0.8, beta_2=0.9)", "nadam"])
    assert [str(each) for each in expressions] == ["adam", "radam(beta_1=0.8, beta_2=0.9)", "nadam"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "adam+", "+adam", "adam(", "adam)", "adam(1))(", "adam('x)", "adam,,sgd"),
        *("adam(beta=)", "adam(beta_1=0.9, 0.8)", "adam(beta_1=1, beta_1=2)", "ad am", "1adam"),
        *("__import__('os').system('true')", "adam(x=[f(1)])", "adam(x=1 if True else 2)"),
        *("adam(lambda: 1)", "a:b:"),
    ],
)
def test_anything_else_is_refused_in_one_line(text):
    with pytest.raises(UsageError) as caught:
        parse_list([text])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("1e-4:1e-1:4", (1e-4, 1e-3, 1e-2, 1e-1)),
        ("1e-4:1e-1:7", (1e-4, 3.162e-4, 1e-3, 3.162e-3, 1e-2, 3.162e-2, 1e-1)),
        ("0.1,1e-3", (1e-3, 0.1)),
        ("0.5", (0.5,)),
    ],
)
def test_learning_rates(text, rates):
    assert parse_learning_rates(text) == rates


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "1e-3:1e-1", "1e-3:1e-1:1", "1e-1:1e-3:3", "0:1:3", "1:inf:3", "-1", "0", "nan"),
        *("1e-3,1e-3", "1e-3:1.0001e-3:9", "1:2:3:4", "1:2:2.5"),
    ],
)
def test_bad_learning_rates_are_refused(text):
    with pytest.raises(UsageError, match=r"learning rate"):
        parse_learning_rates(text)


def factors(text: str, steps: int) -> list[float]:
    schedule = Schedule.of(parse(text).modifiers)
    return [schedule.factor(step, steps) for step in range(steps)]


def test_modifiers_multiply_the_learning_rate():
    assert factors("adam", 3) == [1, 1, 1]
    assert factors("adam+scale(0.25)", 3) == [0.25] * 3
    assert factors("adam+warmup(0.5)", 8) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert factors("adam+linear", 4) == [1, 0.75, 0.5, 0.25]
    assert factors("adam+linear(final=0.5)+scale(2)", 2) == [2, 1.5]
    expected = [0.5, 1] + [0.5 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    assert factors("adam+cosine+warmup(2)", 6) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    "modifiers",
    [
        *("warm", "warmup(0)", "warmup(2.5)", "warmup('a')", "warmup(1, 2)", "scale", "scale(0)"),
        *("cosine(2)", "linear(final=-1)", "cosine+linear", "warmup+warmup", "cosine(end=0)"),
    ],
)
def test_bad_modifiers_are_refused(modifiers):
    with pytest.raises(UsageError):
        Schedule.of(parse(f"adam+{modifiers}").modifiers)
