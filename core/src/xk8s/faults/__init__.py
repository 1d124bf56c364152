"""Known faults and how they are recognised in logs."""
