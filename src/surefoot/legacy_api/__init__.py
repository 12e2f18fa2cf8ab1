"""OptimizerV2's methods and weight lists, and what became of the names of TensorFlow Addons."""
