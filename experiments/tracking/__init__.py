"""Runs told to TensorBoard, MLflow or Weights & Biases, where ``run.track`` names them.

A tracker that is not installed is an error before the run. One that fails later is left out, which
is said at once and in the notes of the summary; the run and its result are what they would be.
"""

from experiments.tracking.following import Following, following
from experiments.tracking.known import TRACKERS, check

__all__ = ["TRACKERS", "Following", "check", "following"]
