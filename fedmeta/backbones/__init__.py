"""Frozen encoders, run once, and their cached features."""
