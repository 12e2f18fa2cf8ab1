"""The methods that optimizers had in TensorFlow 2 until 2022: OptimizerV2 and its weight lists."""
