"""Artifacts: files that come from outside, with ordered sources (see `xk8s.artifacts.model`)."""
