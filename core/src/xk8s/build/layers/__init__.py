"""Layers: entries become EROFS images in the cache."""
