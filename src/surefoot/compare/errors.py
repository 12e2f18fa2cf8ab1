"""The one exception a user of `surefoot compare` is meant to read."""


class UsageError(ValueError):
    """What was asked for cannot be done; the message is one line and says what can."""
