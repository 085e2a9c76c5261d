"""Inference, metrics, statistics, comparison and promotion."""
