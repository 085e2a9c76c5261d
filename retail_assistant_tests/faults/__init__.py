"""What goes wrong, on purpose, and what must come of it: the rows of docs/reliability.md."""
