"""Disk usage: what there is, who references it, what may be removed."""
