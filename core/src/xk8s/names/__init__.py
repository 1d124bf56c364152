"""Overlays and settings by name: discovery, the allow list, loading, calls into plugins."""
