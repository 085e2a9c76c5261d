"""From a catalog file to clean products, the assortment and its search index."""
