"""The base of every VM: Debian's packages, kernel and initramfs (overlay ``debian``)."""
