"""Prompt injection: what shoppers, the catalog, a forged conversation and documents plant."""
