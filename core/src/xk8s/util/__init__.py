"""Helpers that know nothing of clusters; they import only `xk8s.errors`."""
