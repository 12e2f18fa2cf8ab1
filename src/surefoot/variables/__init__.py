"""What a variable is to an optimizer, and which slots belong to it."""
