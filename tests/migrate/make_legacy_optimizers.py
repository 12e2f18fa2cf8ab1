"""The optimizers that `make_legacy_models.py` records, each with the model that it trains."""

import tensorflow as tf
import tensorflow_addons as tfa

legacy = tf.keras.optimizers.legacy
new = tf.keras.optimizers
RADAM = tfa.optimizers.RectifiedAdam
LOOKAHEAD = tfa.optimizers.Lookahead
SCALED = tf.keras.mixed_precision.LossScaleOptimizer
CASES = {
    # TensorFlow Addons and the 2020 Nadam
    "radam_decay_clip": ("regressor", lambda: RADAM(3e-3, decay=0.05, clipnorm=0.5)),
    "radam_schedule": (
        "regressor",
        lambda: RADAM(
            new.schedules.ExponentialDecay(1e-2, 5, 0.9), weight_decay=1e-3, sma_threshold=4.0
        ),
    ),
    "radam_conv": ("image_classifier", lambda: RADAM(5e-3, amsgrad=True, total_steps=25)),
    "radam_two_inputs": ("two_inputs", lambda: RADAM(5e-3, weight_decay=1e-2, min_lr=1e-5)),
    "ranger_text": ("text_classifier", lambda: LOOKAHEAD(RADAM(1e-2), sync_period=3)),
    "ranger_attention": (
        "attention",
        lambda: LOOKAHEAD(RADAM(1e-3, total_steps=40, clipvalue=0.5), 6, 0.3),
    ),
    "lookahead_adam": ("regressor", lambda: LOOKAHEAD(legacy.Adam(1e-2), 5, 0.8)),
    "lookahead_sgd": ("regressor", lambda: LOOKAHEAD(legacy.SGD(1e-2, momentum=0.9), 4)),
    "nadam_text": ("text_classifier", lambda: legacy.Nadam(2e-3, schedule_decay=0.01)),
    "nadam_scaled": ("scaled_regressor", lambda: legacy.Nadam(epsilon=1e-4)),
    "radam_loss_scaled": ("regressor", lambda: SCALED(RADAM(5e-3, weight_decay=1e-2))),
    "ranger_fixed_scale": (
        "scaled_regressor",
        lambda: SCALED(LOOKAHEAD(RADAM(5e-3), 4), dynamic=False, initial_scale=128.0),
    ),
    "adam_loss_scaled": ("regressor", lambda: SCALED(new.Adam(5e-3), dynamic_growth_steps=6)),
    "ranger_mixed": ("mixed_regressor", lambda: LOOKAHEAD(RADAM(5e-3), 4)),
    "swa_adam": ("regressor", lambda: tfa.optimizers.SWA(legacy.Adam(1e-2), 3, 2)),
    "moving_average_text": (
        "text_classifier",
        lambda: tfa.optimizers.MovingAverage(RADAM(1e-2), 0.9, start_step=2, dynamic_decay=True),
    ),
    "radam_cyclical": (
        "regressor",
        lambda: RADAM(tfa.optimizers.Triangular2CyclicalLearningRate(1e-3, 1e-2, step_size=4)),
    ),
    "addons_adamw": ("text_classifier", lambda: tfa.optimizers.AdamW(1e-3, 5e-3, amsgrad=True)),
    "addons_sgdw": (
        "text_classifier",
        lambda: tfa.optimizers.SGDW(1e-3, 0.05, momentum=0.8, decay=0.1),
    ),
    "adabelief": (
        "text_classifier",
        lambda: tfa.optimizers.AdaBelief(5e-3, epsilon=1e-8, weight_decay=1e-2, total_steps=25),
    ),
    "yogi": (
        "text_classifier",
        lambda: tfa.optimizers.Yogi(1e-2, l1_regularization_strength=1e-3),
    ),
    "lazy_adam": ("text_classifier", lambda: tfa.optimizers.LazyAdam(5e-3, beta_2=0.99)),
    "lamb": (
        "text_classifier",
        lambda: tfa.optimizers.LAMB(1e-2, weight_decay=1e-2, exclude_from_weight_decay=["bias"]),
    ),
    "novograd": (
        "text_classifier",
        lambda: tfa.optimizers.NovoGrad(1e-2, weight_decay=1e-3, grad_averaging=True),
    ),
    "lookahead_lamb": ("regressor", lambda: LOOKAHEAD(tfa.optimizers.LAMB(1e-2), 4)),
    # tf.keras 2, OptimizerV2
    "sgd_legacy": ("regressor", lambda: legacy.SGD(0.05)),
    "sgd_momentum_legacy": (
        "image_classifier",
        lambda: legacy.SGD(0.05, momentum=0.9, nesterov=True, decay=0.02),
    ),
    "sgd_momentum_text_legacy": ("text_classifier", lambda: legacy.SGD(0.1, momentum=0.8)),
    "adam_legacy": ("text_classifier", lambda: legacy.Adam(5e-3, beta_2=0.99)),
    "adam_amsgrad_legacy": (
        "two_inputs",
        lambda: legacy.Adam(5e-3, amsgrad=True, epsilon=1e-3),
    ),
    "adam_decay_legacy": (
        "scaled_regressor",
        lambda: legacy.Adam(1e-2, decay=0.1, global_clipnorm=0.5),
    ),
    "rmsprop_legacy": ("regressor", lambda: legacy.RMSprop(2e-3, epsilon=1e-4)),
    "rmsprop_centered_legacy": (
        "regressor",
        lambda: legacy.RMSprop(2e-3, rho=0.8, momentum=0.5, centered=True),
    ),
    "rmsprop_momentum_text_legacy": (
        "text_classifier",
        lambda: legacy.RMSprop(2e-3, momentum=0.5, centered=True),
    ),
    "rmsprop_text_legacy": ("text_classifier", lambda: legacy.RMSprop(5e-3, centered=True)),
    # tf.keras 2.11 and later
    "sgd": ("regressor", lambda: new.SGD(0.05, clipnorm=0.5)),
    "radam_recurrent_stack": ("recurrent_stack", lambda: RADAM(5e-3)),
    "nadam_initial_state": ("initial_state", lambda: legacy.Nadam(5e-3)),
    "ranger_nested": ("nested", lambda: LOOKAHEAD(RADAM(5e-3, beta_2=0.99), 4)),
    "radam_normalized": ("normalized", lambda: RADAM(5e-3)),
    "nadam_addons_activations": ("addons_activations", lambda: legacy.Nadam(5e-3)),
    "radam_operations": ("operations", lambda: RADAM(5e-3)),
    "frozen": ("partly_frozen", lambda: RADAM(5e-3)),
    "subclassed": ("Subclassed", lambda: RADAM(5e-3)),
    "nadam_composite": ("composite", lambda: legacy.Nadam(5e-3)),
    "radam_addons_layers": ("addons_layers", lambda: RADAM(5e-3)),
    "radam_words": ("words", lambda: RADAM(5e-3)),
    "adam_codes": ("codes", lambda: "adam"),
    "containers": ("Containers", lambda: RADAM(5e-3)),
    "sgd_momentum": ("text_classifier", lambda: new.SGD(0.05, momentum=0.9, nesterov=True)),
    "adam": ("image_classifier", lambda: new.Adam(5e-3)),
    "adam_amsgrad": (
        "two_inputs",
        lambda: new.Adam(5e-3, amsgrad=True, weight_decay=1e-2, epsilon=1e-4),
    ),
    "adam_schedule": (
        "attention",
        lambda: new.Adam(new.schedules.PiecewiseConstantDecay([4, 13], [1e-2, 5e-3, 1e-3])),
    ),
    "adam_ema": (
        "regressor",
        lambda: new.Adam(1e-2, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4),
    ),
    "adamw": ("regressor", lambda: new.AdamW(1e-2, weight_decay=0.02, clipnorm=0.5)),
    "adamw_text": ("text_classifier", lambda: new.AdamW(5e-3, amsgrad=True)),
    "rmsprop": ("regressor", lambda: new.RMSprop(2e-3, clipvalue=0.3)),
    "rmsprop_centered": (
        "two_inputs",
        lambda: new.RMSprop(2e-3, rho=0.8, momentum=0.5, centered=True),
    ),
    "nadam_2_11": ("regressor", lambda: new.Nadam(5e-3)),
}
