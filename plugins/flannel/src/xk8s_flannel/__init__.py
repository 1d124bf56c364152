"""flannel: a VXLAN between the nodes, with each node's range of pods from its Node object."""
