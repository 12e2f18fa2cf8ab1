"""Steps that repeat the launches of the step before, by Triton's interpreter on a CPU.

What a GPU is asked for is what the CPU is asked for here; `tests/gpu` runs them on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from surefoot.engines.compiler import triton_kernels

pytestmark = pytest.mark.backends("torch")
torch = pytest.importorskip("torch")

SHAPES = [(5, 3), (7,), (), (4, 2)]
STEPS = 14
EVENT = 7
"""The step before which something happens."""

# Of weights of size 1 that move by 0.01 a step, with scalars of the host and of a kernel.
TOLERANCE = 1e-5

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "RectifiedAdam": lambda: surefoot.RectifiedAdam(
        0.01, weight_decay=0.1, amsgrad=True, total_steps=10, decay=0.01
    ),
    "Nadam": lambda: surefoot.Nadam(0.01),
    "SGDW": lambda: surefoot.SGDW(0.01, 0.1, momentum=0.9),
    "Ranger": lambda: surefoot.Ranger(0.01, sync_period=3),
    "Ranger in bfloat16": lambda: surefoot.Ranger(
        0.01, sync_period=3, moments="bfloat16", slow_weights="bfloat16"
    ),
    "SWA": lambda: surefoot.SWA(surefoot.Nadam(0.01), start_averaging=2, average_period=2),
}


class Training:
    """An optimizer with variables and gradients, in which things can happen."""

    def __init__(self, name: str, dtype: str = "float32") -> None:
        rng = np.random.default_rng(1)
        self.dtype = getattr(torch, dtype)
        self.variables = [keras.Variable(rng.normal(size=s), dtype=dtype) for s in SHAPES]
        self.gradients: list[Any] = [torch.zeros(s, dtype=self.dtype) for s in SHAPES]
        self.optimizer = OPTIMIZERS[name]() if name in OPTIMIZERS else Own(0.01)
        self.optimizer.build(self.variables)

    def step(self, number: int) -> None:
        rng = np.random.default_rng(number)
        for gradient, shape in zip(self.gradients, SHAPES, strict=True):
            new = torch.tensor(0.1 * rng.normal(size=shape), dtype=self.dtype)
            if gradient is not None:
                gradient.copy_(new)
        self.optimizer.apply(self.gradients, self.variables)

    def values(self) -> list[np.ndarray]:
        state = [v for v in self.optimizer.variables if str(v.dtype) != "int16"]
        return [v.value.detach().double().numpy() for v in [*self.variables, *state]]


class Own(surefoot.RectifiedAdam):
    """An optimizer of a user, who does something of his own in each step."""

    def _backend_update_step(self, *args: Any) -> None:
        super()._backend_update_step(*args)
        for variable in self._trainable_variables:
            variable.value.detach().mul_(0.9)


@pytest.fixture
def on_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Lets steps run as on a GPU once it is called."""
    from surefoot.engines.torch import gpu

    def clear() -> None:
        for each in ("_compiled", "loop_kernel", "scalars_kernel"):
            getattr(triton_kernels, each).cache_clear()

    def begin() -> None:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        monkeypatch.setattr(gpu, "is_gpu", lambda device: True)
        monkeypatch.setattr(gpu, "obstacle", lambda device: None)
        clear()

    yield begin
    clear()


@pytest.fixture
def ordinary_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the steps that repeat nothing."""
    found: list[int] = []
    ordinary = surefoot.RectifiedAdam.inline_apply

    def counted(self: Any, *args: Any) -> None:
        found.append(1)
        ordinary(self, *args)

    monkeypatch.setattr("surefoot.base.optimizer.BaseOptimizer.inline_apply", counted)
    return found


def assert_alike(one: Training, other: Training, tolerance: float = TOLERANCE) -> None:
    for x, y in zip(one.values(), other.values(), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_repeated_steps_are_the_steps_of_the_host(
    on_kernels: Callable[[], None], ordinary_steps: list[int], name: str, dtype: str
) -> None:
    wanted = Training(name, dtype)
    for number in range(STEPS):
        wanted.step(number)
    on_kernels()
    found = Training(name, dtype)
    ordinary_steps.clear()
    for number in range(STEPS):
        found.step(number)
    # The first finds out where the state is; the second finds it there, and is recorded.
    assert len(ordinary_steps) == 2
    # A last digit can decide to which neighbour a number in bfloat16 is rounded.
    rounds = dtype == "bfloat16" or "bfloat16" in name
    assert_alike(wanted, found, 1e-2 if rounds else TOLERANCE)


def _exchange_a_tensor(training: Training) -> None:
    training.variables[1]._value = torch.nn.Parameter(training.variables[1].value.detach() + 1)


def _move_a_gradient(training: Training) -> None:
    training.gradients[0] = torch.zeros(SHAPES[0])


def _drop_a_gradient(training: Training) -> None:
    training.gradients[1] = None


def _negate_a_gradient(training: Training) -> None:
    training.gradients[0] = training.gradients[0]._neg_view()


def _assign(training: Training) -> None:
    training.variables[0].assign(np.ones(SHAPES[0]))


def _use_a_schedule(training: Training) -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
    inside = getattr(training.optimizer, "inner_optimizer", training.optimizer)
    inside.learning_rate = schedule


def _use_another_rate(training: Training) -> None:
    training.optimizer.learning_rate = 0.05


def _clip(training: Training) -> None:
    training.optimizer.clipnorm = 0.01


def _count_from_the_start(training: Training) -> None:
    training.optimizer.iterations.assign(0)


EVENTS: dict[str, tuple[Callable[[Training], Any], int]] = {
    # With how many steps do not repeat the one before from then on.
    "assignment": (_assign, 0),
    "another learning rate": (_use_another_rate, 0),
    "count from the start": (_count_from_the_start, 0),
    "another tensor": (_exchange_a_tensor, 2),
    "another gradient": (_move_a_gradient, 0),
    "no gradient": (_drop_a_gradient, STEPS - EVENT),
    "negated gradient": (_negate_a_gradient, STEPS - EVENT),
    "schedule": (_use_a_schedule, STEPS - EVENT),
    "clipping": (_clip, STEPS - EVENT),
}


@pytest.mark.parametrize("name", ["Nadam", "Ranger"])
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("event", EVENTS)
def test_what_happens_between_steps_counts(
    on_kernels: Callable[[], None], ordinary_steps: list[int], name: str, event: str
) -> None:
    def trained() -> Training:
        training = Training(name)
        for number in range(STEPS):
            if number == EVENT:
                ordinary_steps.clear()
                EVENTS[event][0](training)
            training.step(number)
        return training

    wanted = trained()
    on_kernels()
    found = trained()
    assert len(ordinary_steps) == EVENTS[event][1]
    assert_alike(wanted, found)


def test_optimizers_of_the_user_are_asked_each_time(
    on_kernels: Callable[[], None], ordinary_steps: list[int]
) -> None:
    on_kernels()
    training = Training("Own")
    ordinary_steps.clear()
    for number in range(STEPS):
        training.step(number)
    assert len(ordinary_steps) == STEPS
