"""What people do in nodes by hand: copies, SSH."""
