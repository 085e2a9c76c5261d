"""The inside of a training: rows, model, trainer, checkpoints, and what is told of it."""
