"""The engine of TensorFlow."""
