"""``fedmeta audit``: what can be found out about a mechanism by attacking it."""
