"""A retailer's catalog in, a virtual retail assistant out."""

__version__ = "0.1.0"
