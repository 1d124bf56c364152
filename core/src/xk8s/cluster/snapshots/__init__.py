"""Saving a running cluster and restoring it."""
