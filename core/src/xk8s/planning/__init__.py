"""From names and settings to a plan. Pure: no network, no QEMU, no guest."""
