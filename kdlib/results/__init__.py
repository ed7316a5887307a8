"""Run records, what they say over seeds, and tables of them."""

from kdlib.results.environment import environment
from kdlib.results.records import FORMAT, RunRecord, keep, recorded, results_folder
from kdlib.results.shelf import Shelf, Shelved
from kdlib.results.statistics import PairedDifference, Summary, paired_difference
from kdlib.results.tables import Table, table
from kdlib.results.weights import best_weight, validation_by_weight

__all__ = [
    "FORMAT",
    "PairedDifference",
    "RunRecord",
    "Shelf",
    "Shelved",
    "Summary",
    "Table",
    "best_weight",
    "environment",
    "keep",
    "paired_difference",
    "recorded",
    "results_folder",
    "table",
    "validation_by_weight",
]
