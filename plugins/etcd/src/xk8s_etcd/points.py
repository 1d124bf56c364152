"""The named point to which other overlays may contribute fragments."""

from __future__ import annotations

from xk8s.fragments import argument_sets
from xk8s.overlay import Point

ARGS_POINT = "etcd.args"

ARGS = Point(
    type=str,
    help="An argument of etcd, after those of the overlay and before those of the user: the last "
    "of repeated flags counts.",
    example="--quota-backend-bytes=134217728",
    sets=argument_sets(),
)
