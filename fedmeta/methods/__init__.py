"""Each method is a file and a line in METHODS."""
