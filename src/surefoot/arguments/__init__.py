"""The constructors' arguments: checks of values, schedules and keywords, and their types."""
