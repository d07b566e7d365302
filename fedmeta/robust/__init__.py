"""Robust aggregation: the rules, and what a run makes of them."""

from fedmeta.robust.aggregate import aggregate, check, is_on
from fedmeta.robust.rules import RULES

__all__ = ["RULES", "aggregate", "check", "is_on"]
