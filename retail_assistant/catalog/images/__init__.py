"""Product images: addresses that are safe to ask, downloads, checks, thumbnails, the manifest."""
