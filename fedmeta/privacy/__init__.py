"""Differential privacy: what is protected, how, and what it costs; docs/privacy.md in words."""
