"""How it is trained: tasks, trials, the workers that run them, and their store."""
