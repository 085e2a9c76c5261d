"""The champion, talking with shoppers."""
