"""From a plan to files: artifacts and layer images, content-addressed in the cache."""
