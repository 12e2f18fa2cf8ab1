"""The model's variables as an optimizer sees them, and their slots."""
