"""Tools of this repository: set-up, the lock file, the docs generators."""
