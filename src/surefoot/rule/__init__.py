"""The arithmetic: the elementwise rule, and the formulas of a step's scalars."""
