"""Faults by the hundred, too long for CI: each verb that changes something is killed at random
moments, and a cluster is restored a hundred times. ``./run python -m tests.campaign --help``.
"""
