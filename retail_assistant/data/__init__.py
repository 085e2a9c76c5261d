"""The catalog that ships with the project: catalog.csv, of its own making (see README.md)."""
