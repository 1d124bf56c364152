"""Artifacts: fetched, built or copied once, then kept in the cache."""
