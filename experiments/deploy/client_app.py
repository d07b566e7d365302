"""The ClientApp of a deployment: that of the simulation, which tells a real node by its config."""

from clients.app import app as app
