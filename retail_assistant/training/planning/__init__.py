"""Before a training: what it takes, what there is, and how the one fits the other."""
