"""Optimizers and their state, from an old description."""
