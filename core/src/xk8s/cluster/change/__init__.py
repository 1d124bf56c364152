"""Changing a running cluster: apply, scale, new keys."""
