"""fedmeta: federated personalization, simulated and deployed by the same code."""

__version__ = "0.1.0"
