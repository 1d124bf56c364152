"""How the whole suite is run: the order of its tests, their time limits, and what was left out."""
