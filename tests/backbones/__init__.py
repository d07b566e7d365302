"""Features of items, and their cache."""
