"""Experiments: from the name of a recipe to runs, records and what they say over seeds."""

from kdlib.experiments.index import RecordIndex
from kdlib.experiments.recipes import Recipe, find_recipes
from kdlib.experiments.records import keep, recorded, results_folder
from kdlib.experiments.report.comparison import comparison
from kdlib.experiments.report.frame import frame
from kdlib.experiments.report.published import published
from kdlib.experiments.report.table import Table, table
from kdlib.experiments.runner import finished, run_recipe, run_recipes
from kdlib.experiments.statistics import PairedDifference, Summary, paired_difference
from kdlib.experiments.store import Store
from kdlib.experiments.verification import Verification, verify
from kdlib.experiments.weights import best_weight, validation_by_weight
from kdlib.training.record import RunRecord

__all__ = [
    "PairedDifference",
    "Recipe",
    "RecordIndex",
    "RunRecord",
    "Store",
    "Summary",
    "Table",
    "Verification",
    "best_weight",
    "comparison",
    "find_recipes",
    "finished",
    "frame",
    "keep",
    "paired_difference",
    "published",
    "recorded",
    "results_folder",
    "run_recipe",
    "run_recipes",
    "table",
    "validation_by_weight",
    "verify",
]
