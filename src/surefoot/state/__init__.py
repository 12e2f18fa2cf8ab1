"""The state of an optimizer: hyperparameters, counter, slots by name, what compiled steps fix."""
