"""The empty app's server, as Flower looks for it."""

from experiments.bench.empty_app import server as app

__all__ = ["app"]
