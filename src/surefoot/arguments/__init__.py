"""Arguments: checks of values, schedules and keywords, their types, and imports by a path."""
