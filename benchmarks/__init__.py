"""Speed of the optimizers against their peers and against one pass over memory."""
