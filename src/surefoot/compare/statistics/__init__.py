"""What follows from the trials: intervals, comparisons, and the verdict in words."""
