"""Hyperparameter jobs and the fine-tuning that they describe."""
