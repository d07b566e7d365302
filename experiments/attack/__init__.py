"""``fedmeta attack``: what malicious users can do, and what robust rules bear."""
