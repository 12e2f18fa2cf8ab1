"""The sets of tensors that every contender updates."""

from __future__ import annotations

import math

import numpy as np

Shape = tuple[int, ...]


def resnet50() -> list[Shape]:
    """ResNet-50's 161 trainable tensors: bottleneck blocks (3, 4, 6, 3), 1000 classes."""

    def convolution(size: int, inputs: int, outputs: int) -> list[Shape]:
        # The kernel has no bias: the batch normalization behind it brings scale and offset.
        return [(size, size, inputs, outputs), (outputs,), (outputs,)]

    shapes = convolution(7, 3, 64)
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += convolution(1, inputs, width)
            shapes += convolution(3, width, width)
            shapes += convolution(1, width, 4 * width)
            if block == 0:
                shapes += convolution(1, inputs, 4 * width)
            inputs = 4 * width
    return [*shapes, (inputs, 1000), (1000,)]


def gpt2_small() -> list[Shape]:
    """GPT-2 small's 148 trainable tensors; the output projection is the token embedding."""
    width, layers, vocabulary, context = 768, 12, 50257, 1024

    def dense(inputs: int, outputs: int) -> list[Shape]:
        return [(inputs, outputs), (outputs,)]

    normalization: list[Shape] = [(width,), (width,)]
    block = [
        *normalization,
        *dense(width, 3 * width),
        *dense(width, width),
        *normalization,
        *dense(width, 4 * width),
        *dense(4 * width, width),
    ]
    return [(vocabulary, width), (context, width), *(block * layers), *normalization]


def small() -> list[Shape]:
    """200 tensors of 64x64, where the work per tensor outweighs the arithmetic."""
    return [(64, 64)] * 200


SETS = {"resnet50": resnet50, "gpt2": gpt2_small, "small": small}


def parameters(shapes: list[Shape]) -> int:
    """How many numbers tensors of these shapes hold."""
    return sum(math.prod(shape) for shape in shapes)


def arrays(shapes: list[Shape], scale: float, seed: int) -> list[np.ndarray]:
    """Normally distributed float32 arrays, the same on every call."""
    rng = np.random.default_rng(seed)
    return [np.float32(scale) * rng.standard_normal(s, dtype=np.float32) for s in shapes]
