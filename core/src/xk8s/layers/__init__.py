"""Layers: file trees as EROFS images in a content-addressed cache."""
