"""Runs: a recipe and a seed, trained once and kept."""

from kdlib.runs.runner import finished, perform
from kdlib.runs.store import Store
from kdlib.runs.sweep import sweep
from kdlib.runs.verification import Verification, verify

__all__ = ["Store", "Verification", "finished", "perform", "sweep", "verify"]
