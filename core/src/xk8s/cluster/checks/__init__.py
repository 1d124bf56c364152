"""Checks, diagnosis and logs of a running cluster."""
