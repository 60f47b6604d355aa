"""Episodes on disk, decoded windows, and the cache of what the frozen model makes of them."""
