"""What a VM runs on: QEMU and a network namespace."""
