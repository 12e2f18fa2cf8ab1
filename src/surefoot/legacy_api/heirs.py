"""What became of each name that TensorFlow Addons 0.23 exported."""

from __future__ import annotations

NONE = "has no heir"
_IMAGES = "`keras.ops.image.affine_transform`"
_LOSS_OF_EMBEDDINGS = f"{NONE}; `keras.losses.Circle` is another loss for embeddings"
_SCIPY = "the function of whole arrays is"
_ATTENTION = "for the attention alone"
_DECODING = f"{NONE}; for decoding with KerasHub's models"
_CELL = f"{NONE}; write a cell for `keras.layers.RNN`"

# By module of `tfa`: names that are separated by blanks, and their heir.
HEIRS: dict[str, dict[str, str]] = {
    "optimizers": {
        "RectifiedAdam Lookahead AdamW SGDW AdaBelief Yogi LazyAdam LAMB NovoGrad": "the same "
        "name in `surefoot.optimizers`: the same",
        "DecoupledWeightDecayExtension extend_with_decoupled_weight_decay": "the same name in "
        "`surefoot.optimizers`, for optimizers of Keras: the same",
        "MovingAverage SWA MultiOptimizer": "`surefoot.MovingAverage`, `surefoot.SWA`, "
        "`surefoot.MultiOptimizer`: the same",
        "AveragedOptimizerWrapper": f"{NONE}; `surefoot.MovingAverage` and `surefoot.SWA` are the "
        "optimizers that were built on it",
        "CyclicalLearningRate TriangularCyclicalLearningRate Triangular2CyclicalLearningRate "
        "ExponentialCyclicalLearningRate": "the same name in `surefoot`: the same",
        "COCOB": f"{NONE} in Keras; `optax.contrib.cocob` in a loop of JAX",
        "ProximalAdagrad": f"{NONE}; `keras.optimizers.Adagrad` is the same without "
        "regularization, and `surefoot.Yogi` has the proximal steps of L1 and L2",
        "ConditionalGradient": f"{NONE}; `keras.constraints.MaxNorm` holds weights within the same "
        "ball after the steps of any optimizer",
        "KerasLegacyOptimizer": "`keras.optimizers.Optimizer`",
    },
    "activations": {
        "gelu": "`surefoot.migrate.tanh_gelu`; `keras.activations.gelu` is exact by default",
        "hardshrink": "`keras.activations.hard_shrink`, with one `threshold` for both bounds",
        "softshrink": "`keras.activations.soft_shrink`, with one `threshold` for both bounds",
        "tanhshrink": "`keras.activations.tanh_shrink`",
        "mish": "`keras.activations.mish`",
        "lisht": "`surefoot.migrate.lisht`",
        "snake": "`surefoot.migrate.snake`",
        "sparsemax": "`surefoot.migrate.sparsemax`",
        "rrelu": f"{NONE}; outside of training it is `keras.activations.leaky_relu` with "
        "`negative_slope=(lower + upper) / 2`",
    },
    "losses": {
        "SigmoidFocalCrossEntropy sigmoid_focal_crossentropy": "`keras.losses."
        "BinaryFocalCrossentropy(apply_class_balancing=True)`, which takes the mean over classes "
        "where the original summed, and the mean of the batch by default",
        "ContrastiveLoss contrastive_loss LiftedStructLoss lifted_struct_loss NpairsLoss "
        "npairs_loss NpairsMultilabelLoss npairs_multilabel_loss TripletHardLoss triplet_hard_loss "
        "TripletSemiHardLoss triplet_semihard_loss": _LOSS_OF_EMBEDDINGS,
        "GIoULoss giou_loss PinballLoss pinball_loss WeightedKappaLoss": NONE,
        "SparsemaxLoss sparsemax_loss": f"{NONE}; `surefoot.migrate.sparsemax` is the activation",
    },
    "layers": {
        "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D "
        "AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D": "the same name in "
        "`keras.layers` of a recent Keras 3",
        "GroupNormalization": "`keras.layers.GroupNormalization`: the same",
        "InstanceNormalization": "`keras.layers.GroupNormalization(groups=-1)`",
        "SpectralNormalization": "`keras.layers.SpectralNormalization`",
        "MultiHeadAttention": "`keras.layers.MultiHeadAttention`; `head_size` is `key_dim`, and it "
        "is called with query, value and key",
        "GELU": "`keras.layers.Activation(surefoot.migrate.tanh_gelu)`",
        "Sparsemax": "`keras.layers.Activation(surefoot.migrate.sparsemax)`",
        "Snake": f"{NONE} with a frequency that is trained; `surefoot.migrate.snake` has a fixed",
        "EmbeddingBag": "`keras.layers.Embedding`, and `keras.ops.sum` or `keras.ops.mean` after",
        "PolynomialCrossing": "`keras_rs.layers.FeatureCross` of the package keras-rs",
        "CRF CorrelationCost ESN FilterResponseNormalization MaxUnpooling2D MaxUnpooling2DV2 "
        "Maxout NoisyDense PoincareNormalize SpatialPyramidPooling2D StochasticDepth TLU "
        "WeightNormalization": f"{NONE}; write it as a subclass of `keras.layers.Layer`",
    },
    "metrics": {
        "F1Score": "`keras.metrics.F1Score`, without `num_classes`",
        "FBetaScore": "`keras.metrics.FBetaScore`, without `num_classes`",
        "RSquare": "`keras.metrics.R2Score`; `multioutput` is `class_aggregation`",
        "MeanMetricWrapper": "`keras.metrics.MeanMetricWrapper`",
        "HammingLoss hamming_loss_fn": "for `mode='multilabel'`, 1 less "
        "`keras.metrics.BinaryAccuracy(threshold=...)`; otherwise 1 less "
        "`keras.metrics.CategoricalAccuracy`",
        "hamming_distance": f"{NONE}; `keras.ops.mean` of where the arrays differ",
        "PearsonsCorrelation": "`keras.metrics.PearsonCorrelation`, which is computed along an "
        "axis of each batch and not from bins",
        "KendallsTauB KendallsTauC": f"{NONE}; {_SCIPY} `scipy.stats.kendalltau`",
        "SpearmansRank": f"{NONE}; {_SCIPY} `scipy.stats.spearmanr`",
        "CohenKappa": f"{NONE}; {_SCIPY} `sklearn.metrics.cohen_kappa_score`",
        "MatthewsCorrelationCoefficient": f"{NONE}; {_SCIPY} `sklearn.metrics.matthews_corrcoef`",
        "MultiLabelConfusionMatrix": f"{NONE}; {_SCIPY} "
        "`sklearn.metrics.multilabel_confusion_matrix`",
        "GeometricMean HarmonicMean": f"{NONE}; `keras.metrics.Mean` of logarithms or reciprocals",
    },
    "callbacks": {
        "AverageModelCheckpoint": "`surefoot.callbacks.AverageModelCheckpoint`: the same",
        "TQDMProgressBar": "`tqdm.keras.TqdmCallback` of the package tqdm",
        "TimeStopping": f"{NONE}; write a `keras.callbacks.Callback` that sets `stop_training`",
    },
    "image": {
        "rotate transform translate translate_xy shear_x shear_y": f"{_IMAGES}, with the same 8 "
        "numbers for a transformation (the last 2 count on TensorFlow only); for augmentation "
        "`keras.layers.RandomRotation`, `keras.layers.RandomTranslation` and "
        "`keras.layers.RandomShear`",
        "angles_to_projective_transforms compose_transforms "
        "translations_to_projective_transforms": f"{NONE}; they give the matrices of {_IMAGES}",
        "dense_image_warp interpolate_bilinear resampler": "`keras.ops.image.map_coordinates`",
        "sparse_image_warp interpolate_spline": f"{NONE}; `scipy.interpolate.RBFInterpolator`",
        "equalize": "`keras.layers.Equalization`",
        "gaussian_filter2d": "`keras.ops.image.gaussian_blur`, which pads with zeros",
        "mean_filter2d": "`keras.ops.average_pool` with strides of 1, after padding",
        "median_filter2d": f"{NONE}; `scipy.ndimage.median_filter`",
        "connected_components": f"{NONE}; `scipy.ndimage.label`",
        "euclidean_dist_transform": f"{NONE}; `scipy.ndimage.distance_transform_edt`",
        "cutout random_cutout": "`keras.layers.RandomErasing`",
        "sharpness": "`keras.layers.RandomSharpness`",
        "adjust_hsv_in_yiq random_hsv_in_yiq": "`keras.layers.RandomHue`, "
        "`keras.layers.RandomSaturation`",
        "blend": f"{NONE}; `image1 + factor * (image2 - image1)`",
    },
    "rnn": {
        "ESNCell LayerNormLSTMCell LayerNormSimpleRNNCell NASCell PeepholeLSTMCell": _CELL,
    },
    "seq2seq": {
        "BahdanauAttention": f"`keras.layers.AdditiveAttention`, {_ATTENTION}",
        "LuongAttention": f"`keras.layers.Attention`, {_ATTENTION}",
        "BeamSearchDecoder BeamSearchDecoderOutput BeamSearchDecoderState "
        "FinalBeamSearchDecoderOutput": f"{_DECODING}, `keras_hub.samplers.BeamSampler`",
        "GreedyEmbeddingSampler": f"{_DECODING}, `keras_hub.samplers.GreedySampler`",
        "SampleEmbeddingSampler": f"{_DECODING}, `keras_hub.samplers.RandomSampler`",
        "SequenceLoss sequence_loss": "`keras.losses.SparseCategoricalCrossentropy`, with weights "
        "of the time steps as `sample_weight`",
        "hardmax": f"{NONE}; `keras.ops.one_hot` of `keras.ops.argmax`",
        "tile_batch": "`keras.ops.repeat`",
        "AttentionMechanism AttentionWrapper AttentionWrapperState BahdanauMonotonicAttention "
        "BaseDecoder BasicDecoder BasicDecoderOutput CustomSampler Decoder InferenceSampler "
        "LuongMonotonicAttention Sampler ScheduledEmbeddingTrainingSampler "
        "ScheduledOutputTrainingSampler TrainingSampler dynamic_decode gather_tree "
        "gather_tree_from_array monotonic_attention safe_cumprod": NONE,
    },
    "text": {
        "parse_time": f"{NONE}; `datetime.datetime.strptime`",
        "CRFModelWrapper CrfDecodeForwardRnnCell crf_binary_score crf_constrained_decode "
        "crf_decode crf_decode_backward crf_decode_forward crf_filtered_inputs crf_forward "
        "crf_log_likelihood crf_log_norm crf_multitag_sequence_score crf_sequence_score "
        "crf_unary_score skip_gram_sample skip_gram_sample_with_text_vocab viterbi_decode": NONE,
    },
    "options": {
        "disable_custom_kernel enable_custom_kernel is_custom_kernel_disabled warn_fallback": "not "
        "needed: there are no kernels of our own to switch off",
    },
    "register": {
        "register_all register_custom_kernels register_keras_objects": "not needed: "
        "`import surefoot` registers its classes",
    },
    "types": {
        "AcceptableDTypes Activation Constraint FloatTensorLike Initializer Number Optimizer "
        "Regularizer TensorLike": f"{NONE}; write the classes that you mean, such as "
        "`keras.Initializer`",
    },
    "version": {
        "EXCLUSIVE_MAX_TF_VERSION INCLUSIVE_MIN_TF_VERSION": f"{NONE}; `surefoot.__version__` is "
        "ours, and the command `surefoot info` prints those of the others",
    },
}


def heir(module: str, name: str) -> str | None:
    """What became of a name, or None if TensorFlow Addons had no such name.

    Args:
        module: Its module, such as `"losses"`.
        name: The name.

    Returns:
        The heir, in words.

    Example:
        >>> heir("layers", "InstanceNormalization")
        '`keras.layers.GroupNormalization(groups=-1)`'
    """
    for names, text in HEIRS.get(module, {}).items():
        if name in names.split():
            return text
    return None


def missing_attribute(module: str, name: str) -> str:
    """The message of an AttributeError that says what became of a name.

    Args:
        module: The module of ours that lacks the name, `"surefoot"` or `"surefoot.optimizers"`.
        name: The name.

    Returns:
        The message.
    """
    message = f"module {module!r} has no attribute {name!r}"
    if module == "surefoot" and name == "register_all":
        module = "surefoot.register"
    found = heir(module.partition(".")[2], name)
    if found is not None:
        return f"{message}. TensorFlow Addons' {name}: {found}."
    if module == "surefoot" and name in HEIRS:
        lines = [f"  {', '.join(names.split())}: {text}." for names, text in HEIRS[name].items()]
        return "\n".join([f"{message}. What became of TensorFlow Addons' {name}:", *lines])
    return message
