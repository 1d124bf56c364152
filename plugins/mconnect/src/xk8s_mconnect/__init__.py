"""mconnect: many connections to one address, and which pod answered each of them."""
