"""The statistics of an ablation: intervals, paired comparisons, power."""
