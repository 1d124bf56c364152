"""CRI-O: runs containers, with every image in a read-only store in a layer."""
