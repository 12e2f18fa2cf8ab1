"""Converts layers and weights of an old file to Keras 3."""
