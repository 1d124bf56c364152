"""coredns: names of Services for pods."""
