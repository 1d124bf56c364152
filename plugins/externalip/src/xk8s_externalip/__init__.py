"""externalip: the router outside of the cluster that spreads virtual addresses over the nodes."""
