"""Tests of the maths: gradients, contracts, sampling, scores."""
