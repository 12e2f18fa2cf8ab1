"""Built-in tasks, on real data that other packages contain."""
