"""The named point that other overlays may give fragments for."""

from __future__ import annotations

from xk8s.fragments import argument_sets
from xk8s.overlay import Point

ARGS_POINT = "etcd.args"

ARGS = Point(
    type=str,
    help="An argument of etcd, behind those of the overlay and before those of the user: of a flag "
    "that comes twice the last one counts.",
    example="--quota-backend-bytes=134217728",
    sets=argument_sets(),
)
