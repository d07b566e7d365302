"""Oracles, contracts, parity and end-to-end tests."""
