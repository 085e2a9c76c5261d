"""Verification: what of the storage is missing, altered or orphaned, and what to do about it."""
