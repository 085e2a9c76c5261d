"""Searches: Optuna proposes jobs within a space."""
