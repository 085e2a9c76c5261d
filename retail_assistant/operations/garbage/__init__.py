"""Garbage collection: what nothing refers to any more, into the trash and out of it again."""
