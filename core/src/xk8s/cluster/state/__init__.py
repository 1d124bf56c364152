"""What is written down about a cluster, and read by every verb."""
