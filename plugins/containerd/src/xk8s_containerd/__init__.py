"""containerd: runs containers, with every image in its store before the node boots."""
