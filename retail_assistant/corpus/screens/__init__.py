"""The screens that every dialogue passes, one module for each thing that may be wrong with it."""
