"""bridge: a bridge per node, and plain routes between them."""
