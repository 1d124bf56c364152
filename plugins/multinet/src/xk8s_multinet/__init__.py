"""multinet: further interfaces for pods, on the networks of the nodes."""
