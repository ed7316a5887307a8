"""Runs: a recipe and a seed, trained once and kept."""

from kdlib.runs.runner import finished, perform
from kdlib.runs.store import Store
from kdlib.runs.sweep import sweep

__all__ = ["Store", "finished", "perform", "sweep"]
