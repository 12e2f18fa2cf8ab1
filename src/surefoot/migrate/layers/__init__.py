"""Layers and weights of an old description as those of Keras 3."""
