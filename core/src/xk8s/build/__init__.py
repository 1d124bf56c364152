"""Building a plan's files: artifacts and layer images, content-addressed in the cache."""
