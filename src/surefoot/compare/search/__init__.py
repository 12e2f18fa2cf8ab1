"""What is compared: optimizer expressions, schedules, and learning rates."""
