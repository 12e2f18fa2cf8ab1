"""Converts optimizers and their state."""
