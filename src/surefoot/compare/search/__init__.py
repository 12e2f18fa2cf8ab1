"""What is tried: optimizers as expressions, schedules, and the grid of learning rates."""
