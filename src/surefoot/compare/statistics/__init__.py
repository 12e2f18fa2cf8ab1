"""Statistics of the trials: intervals, comparisons, and the verdict as sentences."""
