"""Layers: entries become EROFS images in the cache, with one owner per path."""
