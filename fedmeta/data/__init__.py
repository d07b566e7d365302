"""User data, from any source, as a UserStore."""
