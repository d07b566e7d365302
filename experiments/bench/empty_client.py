"""The empty app's client, as Flower looks for it."""

from experiments.bench.empty_app import client as app

__all__ = ["app"]
