"""What the constructors take: single arguments, schedules, keywords, and their types."""
