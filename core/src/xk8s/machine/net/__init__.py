"""The cluster's L2 networks: one network namespace per cluster, without root."""
