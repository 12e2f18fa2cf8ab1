"""What all optimizers share on top of Keras: the step, moments, and the base of wrappers."""
