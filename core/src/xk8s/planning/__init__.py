"""Making a plan from names and settings. Pure: no network, no QEMU, no guest."""
