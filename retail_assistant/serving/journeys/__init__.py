"""Shopping journeys: conversations of several turns on any catalog, and what is wrong in them."""
