"""Starting, connecting and ending the VMs of a cluster."""
