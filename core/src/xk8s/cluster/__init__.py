"""Clusters that run: started from a plan, found again by name, and taken down without a trace."""
