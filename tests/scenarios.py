"""Runs that no recording covers: an optimizer, its options, and what changes on the way.

Numbers are float32 values, so that the reference means what a float32 variable holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

import reference
import surefoot
from reference_base import LISTS, Reference

SHAPES = ((4, 3), (3,), ())
STEPS = 14


def f32(number: float) -> float:
    """The float32 value of a number."""
    return float(np.float32(number))


@dataclass(frozen=True, eq=False)
class Both:
    """An argument that the package takes in one form and the reference in another."""

    given: Callable[[], Any]
    means: Any


@dataclass(frozen=True, eq=False)
class Scenario:
    """One run. ``changes`` are attributes written before the step they stand under."""

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    changes: dict[int, dict[str, Any]] = field(default_factory=dict)
    missing: dict[int, tuple[int, ...]] = field(default_factory=dict)
    scale: float = 1.0
    steps: int = STEPS

    def optimizer(self) -> keras.optimizers.Optimizer:
        """The package's optimizer."""
        options = {
            key: value.given() if isinstance(value, Both) else value
            for key, value in self.options.items()
        }
        return getattr(surefoot, self.kind)(**options)

    def reference(self, start: Sequence[np.ndarray]) -> Reference:
        """The NumPy reference."""
        options = {
            key: value.means if isinstance(value, Both) else value
            for key, value in self.options.items()
        }
        options.pop("loss_scale_factor", None)
        options = {LISTS.get(key, key): value for key, value in options.items()}
        build = reference.ranger if self.kind == "Ranger" else getattr(reference, self.kind)
        return build(start, **options)

    def start(self) -> list[np.ndarray]:
        """Parameters before the first step."""
        return [np.random.default_rng(1).normal(size=shape) for shape in SHAPES]

    def gradients(self, step: int) -> list[np.ndarray | None]:
        """Gradients of a step, of different sizes, None for the variables missing there."""
        random = np.random.default_rng(step)
        return [
            None
            if i in self.missing.get(step, ())
            else random.normal(size=shape) * 10.0 ** random.integers(-2, 2) + 0.1
            for i, shape in enumerate(SHAPES)
        ]

    def change(self, step: int, *holders: Any) -> None:
        """Write what changes before ``step`` to the optimizer or the reference."""
        for name, value in self.changes.get(step, {}).items():
            for holder in holders:
                # a hyperparameter of Ranger's inner optimizer is the inner reference's
                setattr(holder if hasattr(holder, name) else holder.inner, name, value)


BASE = {
    "learning_rate": f32(0.03),
    "beta_1": f32(0.9),
    "beta_2": f32(0.95),
    "epsilon": f32(1e-7),
}


def _named(
    kind: str, scenarios: dict[str, dict[str, Any]], base: dict[str, Any] = BASE
) -> list[Scenario]:
    return [
        Scenario(
            f"{kind}-{name}", kind, **settings | {"options": base | settings.get("options", {})}
        )
        for name, settings in scenarios.items()
    ]


def _schedule() -> keras.optimizers.schedules.LearningRateSchedule:
    return keras.optimizers.schedules.PiecewiseConstantDecay([3, 8], [0.25, 0.125, 0.0625])


def _piecewise(iterations: int) -> float:
    return 0.25 if iterations <= 3 else 0.125 if iterations <= 8 else 0.0625


SCHEDULE = Both(_schedule, _piecewise)
SERIALIZED = Both(lambda: keras.optimizers.schedules.serialize(_schedule()), _piecewise)

SHARED: dict[str, dict[str, Any]] = {
    "plain": {},
    "beta_1_zero": {"options": {"beta_1": 0.0}},
    "beta_2_near_one": {"options": {"beta_2": f32(0.9999)}, "steps": 8},
    "epsilon_zero": {"options": {"epsilon": 0.0}},
    "epsilon_large": {"options": {"epsilon": 0.5}},
    "weight_decay": {"options": {"weight_decay": 0.0625}},
    "weight_decay_schedule": {"options": {"weight_decay": SCHEDULE}},
    "weight_decay_dict": {"options": {"weight_decay": SERIALIZED}},
    "weight_decay_callable": {"options": {"weight_decay": Both(lambda: lambda: 0.25, 0.25)}},
    "schedule": {"options": {"learning_rate": SCHEDULE}},
    "schedule_dict": {"options": {"learning_rate": SERIALIZED}},
    "rate_callable": {"options": {"learning_rate": Both(lambda: lambda: 0.0625, 0.0625)}},
    "rate_int": {"options": {"learning_rate": 1}},
    "rate_numpy": {"options": {"learning_rate": Both(lambda: np.float32(0.03), f32(0.03))}},
    "rate_tensor": {
        "options": {
            "learning_rate": Both(lambda: keras.ops.convert_to_tensor(0.0625), 0.0625),
            "weight_decay": Both(lambda: keras.ops.convert_to_tensor(0.125), 0.125),
        }
    },
    "clipnorm": {"options": {"clipnorm": 0.5}},
    "clipvalue": {"options": {"clipvalue": 0.25}},
    "global_clipnorm": {"options": {"global_clipnorm": 0.75}},
    "accumulation": {"options": {"gradient_accumulation_steps": 3, "weight_decay": SCHEDULE}},
    "accumulation_clipnorm": {"options": {"gradient_accumulation_steps": 2, "clipnorm": 0.5}},
    "ema": {"options": {"use_ema": True, "ema_momentum": 0.75}},
    "ema_overwrite": {
        "options": {"use_ema": True, "ema_momentum": 0.75, "ema_overwrite_frequency": 4}
    },
    "loss_scale": {"options": {"loss_scale_factor": 8.0}, "scale": 8.0},
    "gradient_missing": {"missing": {3: (0,), 4: (0,), 9: (1, 2)}},
    "changed": {
        "changes": {
            4: {"learning_rate": 0.125},
            6: {"beta_1": 0.75},
            8: {"beta_2": 0.875, "epsilon": 0.25},
            10: {"weight_decay": 0.25},
        }
    },
}

RECTIFIED: dict[str, dict[str, Any]] = {
    "beta_2_zero": {"options": {"beta_2": 0.0}},
    "beta_2_low": {"options": {"beta_2": f32(0.6)}},
    "amsgrad": {"options": {"amsgrad": True, "weight_decay": 0.125}},
    "sma_threshold": {"options": {"sma_threshold": 6.5}},
    "warmup": {"options": {"total_steps": 10, "warmup_proportion": 0.25, "min_lr": 0.0078125}},
    "warmup_none": {"options": {"total_steps": 10, "warmup_proportion": 0}},
    "warmup_only": {"options": {"total_steps": 8, "warmup_proportion": 1, "min_lr": 0.015625}},
    "warmup_float_steps": {"options": {"total_steps": 1e1, "warmup_proportion": 0.5}},
    "warmup_schedule": {
        "options": {"total_steps": 10, "learning_rate": SCHEDULE, "weight_decay": SCHEDULE}
    },
    "warmup_accumulation": {
        "options": {"total_steps": 4, "warmup_proportion": 0.5, "gradient_accumulation_steps": 2}
    },
    "decay": {"options": {"decay": 0.25}},
    "decay_schedule_warmup": {
        "options": {"decay": 0.125, "learning_rate": SCHEDULE, "total_steps": 10}
    },
    "skip_unrectified": {"options": {"unrectified_update": "skip", "weight_decay": 0.125}},
    "all_changed": {
        "options": {"total_steps": 12},
        "changes": {
            3: {"decay": 0.25},
            4: {"min_lr": 0.0078125},
            5: {"total_steps": 9},
            6: {"warmup_proportion": 0.5},
            7: {"sma_threshold": 20.0},
            9: {"sma_threshold": 4.5},
        },
    },
}

NESTEROV: dict[str, dict[str, Any]] = {
    "schedule_decay": {"options": {"schedule_decay": 0.125, "weight_decay": 0.125}},
    "schedule_decay_zero": {"options": {"schedule_decay": 0.0}},
    "gradient_missing_at_first": {"missing": {1: (1,), 2: (1,)}},
    "all_changed": {"changes": {5: {"schedule_decay": 0.5}}},
}

SYNCED: dict[str, dict[str, Any]] = {
    "k_one": {"options": {"sync_period": 1, "slow_step_size": 0.25}},
    "k_longer_than_run": {"options": {"sync_period": 100}},
    "accumulation_k": {"options": {"gradient_accumulation_steps": 2, "sync_period": 3}},
    "all_changed": {"changes": {4: {"slow_step_size": 0.875}}},
    "gradient_missing_at_the_end": {"options": {"sync_period": 3}, "missing": {3: (0,), 6: (1, 2)}},
}

# What others share with those above is checked there with every option.
SOME: dict[str, dict[str, Any]] = {
    name: SHARED[name]
    for name in ("plain", "clipvalue", "accumulation", "ema_overwrite", "gradient_missing")
}
DECAYED: dict[str, dict[str, Any]] = {
    "decay_schedule": {
        "options": {"decay": 0.125, "learning_rate": SCHEDULE, "weight_decay": SCHEDULE}
    },
    "excluded": {
        "options": {
            "weight_decay": 0.25,
            "exclude_from_weight_decay": Both(lambda: ["variable_1", "_2$"], frozenset({1, 2})),
        }
    },
}
BELIEF = BASE | {"beta_2": f32(0.9)}  # rectified from the sixth step on
YOGI = {"learning_rate": f32(0.03), "beta1": f32(0.9), "beta2": f32(0.95)}
ADAMW = BASE | {"weight_decay": 0.0625}
SGDW = {"learning_rate": f32(0.03), "weight_decay": 0.0625, "momentum": f32(0.9)}

SCENARIOS = (
    _named("RectifiedAdam", SHARED | RECTIFIED)
    + _named("Nadam", SHARED | NESTEROV)
    + _named("Ranger", {n: SHARED[n] for n in ("plain", "clipnorm", "accumulation")} | SYNCED)
    + _named(
        "Ranger",
        {n: SHARED[n] for n in ("ema_overwrite", "gradient_missing", "changed", "loss_scale")}
        | {n: RECTIFIED[n] for n in ("amsgrad", "warmup", "decay_schedule_warmup")},
    )
    + _named(
        "AdamW",
        SOME | DECAYED | {n: SHARED[n] for n in ("changed", "weight_decay_callable")},
        ADAMW,
    )
    + _named("AdamW", {"amsgrad": RECTIFIED["amsgrad"]}, ADAMW)
    + _named("SGDW", SOME | DECAYED, SGDW)
    + _named(
        "SGDW",
        {
            "changed": {
                "options": {"nesterov": True},
                "changes": {3: {"momentum": 0.75}, 5: {"learning_rate": 0.25, "decay": 0.5}},
            },
            "plain_descent": {"options": {"momentum": 0.0}, "changes": {5: {"weight_decay": 0.5}}},
        },
        SGDW,
    )
    + _named(
        "AdaBelief",
        SOME
        | {n: RECTIFIED[n] for n in ("amsgrad", "decay_schedule_warmup", "all_changed")}
        | {"changed": SHARED["changed"], "not_rectified": {"options": {"rectify": False}}},
        BELIEF,
    )
    + _named(
        "Yogi",
        {n: s for n, s in SOME.items() if n != "accumulation"}
        | {
            "accumulation": {"options": {"gradient_accumulation_steps": 3}},
            "changed": {
                "changes": {
                    3: {"learning_rate": 0.125, "decay": 0.25},
                    5: {"beta_1": 0.75, "beta_2": 0.875},
                    7: {"l1_regularization_strength": 0.5, "l2_regularization_strength": 0.25},
                    9: {"epsilon": 0.5},
                }
            },
            "plain_descent": {
                "options": {
                    "beta1": 0.0,
                    "l1_regularization_strength": 0.25,
                    "learning_rate": SCHEDULE,
                }
            },
            "tanh": {"options": {"activation": "tanh", "initial_accumulator_value": 0.25}},
        },
        YOGI,
    )
    + _named(
        "LazyAdam",
        {n: s for n, s in SOME.items() if n != "accumulation"} | {"decay": RECTIFIED["decay"]},
    )
    + _named(
        "LAMB",
        SOME
        | DECAYED
        | {
            "changed": SHARED["changed"],
            "adapted": {
                "options": {
                    "weight_decay": 0.25,
                    "exclude_from_layer_adaptation": Both(lambda: ["_0"], frozenset({0})),
                }
            },
        },
    )
    + _named(
        "NovoGrad",
        SOME
        | {
            "amsgrad": {"options": {"amsgrad": True, "weight_decay": 0.125, "decay": 0.125}},
            "changed": SHARED["changed"]
            | {"options": {"learning_rate": SCHEDULE}, "changes": {5: {"grad_averaging": True}}},
            "averaging": {"options": {"grad_averaging": True}} | {"missing": {1: (0,)}},
        },
    )
)


def scenario(name: str, **changes: Any) -> Scenario:
    """The scenario of that name, with some of its fields replaced."""
    (found,) = (s for s in SCENARIOS if s.name == name)
    return dataclasses.replace(found, **changes)
