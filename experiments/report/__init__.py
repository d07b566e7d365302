"""What people look at: one self-contained page for the folder of any command."""
