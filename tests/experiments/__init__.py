"""What the command writes, prints and refuses."""
