"""One VM: its command line, its process, and the sockets to talk to it."""
