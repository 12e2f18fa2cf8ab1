"""The exception whose message `surefoot compare` shows to the user."""


class UsageError(ValueError):
    """The request cannot be carried out; the message is one line and says what is accepted."""
