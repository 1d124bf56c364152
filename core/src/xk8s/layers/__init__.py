"""Layers: entries become EROFS images in the cache (`build`), with one owner per path (`owners`)."""
