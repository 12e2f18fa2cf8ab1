"""A user's file in which a type checker has nothing to report: every argument, rightly given."""

from __future__ import annotations

import keras
import numpy as np

import surefoot


def every_argument() -> list[keras.optimizers.Optimizer]:
    """Each optimizer with all its arguments."""
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    first, second = keras.layers.Dense(3), keras.layers.Dense(3)
    return [
        surefoot.RectifiedAdam(
            learning_rate=schedule,
            beta_1=0.9,
            beta_2=np.float32(0.999),
            epsilon=None,
            weight_decay=lambda: 1e-4,
            amsgrad=True,
            sma_threshold=5,
            total_steps=1000,
            warmup_proportion=0.1,
            min_lr=1e-5,
            name="first",
            unrectified_update="skip",
            decay=0.0,
            low_precision="stochastic",
            seed=1,
            lazy=False,
            nonfinite="skip",
            shard_state=False,
            clipnorm=1.0,
            use_ema=True,
            ema_momentum=0.99,
            ema_overwrite_frequency=10,
            loss_scale_factor=8,
            gradient_accumulation_steps=2,
        ),
        surefoot.Nadam(
            learning_rate={"class_name": "CosineDecay", "config": schedule.get_config()},
            beta_1=0.9,
            beta_2=0.999,
            epsilon=1e-7,
            name="second",
            schedule_decay=0.004,
            weight_decay=1e-4,
            low_precision="master",
            seed=1,
            lazy=False,
            nonfinite="propagate",
            shard_state=False,
            clipvalue=0.5,
        ),
        surefoot.Nadam(lr=0.01, decay=0.004),
        surefoot.Lookahead(
            "adam",
            sync_period=5,
            slow_step_size=0.5,
            name="third",
            finalize="slow",
            nonfinite="propagate",
            shard_state=False,
            global_clipnorm=1.0,
        ),
        surefoot.Ranger(
            learning_rate=keras.ops.array(0.1),
            beta_1=0.9,
            beta_2=0.999,
            epsilon=1e-7,
            weight_decay=1e-4,
            amsgrad=False,
            sma_threshold=5.0,
            total_steps=0,
            warmup_proportion=0.1,
            min_lr=0.0,
            sync_period=6,
            slow_step_size=0.5,
            name="fourth",
            unrectified_update="momentum",
            low_precision="nearest",
            seed=0,
            lazy=False,
            finalize="fast",
            nonfinite="propagate",
            shard_state=False,
            clipnorm=1.0,
        ),
        surefoot.Ranger(lr=0.1, decay=1e-4),
        surefoot.MovingAverage(
            surefoot.SWA("adam", start_averaging=10, average_period=5, clipnorm=1.0),
            average_decay=0.9,
            num_updates=None,
            start_step=2,
            dynamic_decay=True,
            name="fifth",
            nonfinite="skip",
        ),
        surefoot.MultiOptimizer(
            [
                (surefoot.Nadam(surefoot.TriangularCyclicalLearningRate(0.1, 1.0, 5)), first),
                (surefoot.optimizers.Nadam(), [second]),
            ]
        ),
    ]
