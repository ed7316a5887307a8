"""Recipes: what is to be run, from TOML files to frozen, validated, hashed objects.

One file per family of experiments is in ``families/``; those of users lie anywhere. `find_recipes` resolves
names such as "cifar/methods/cifar10/20-20/st"; running them is the business of `kdlib.experiments`.
"""

from kdlib.experiments.recipes.family import PROFILES, Family, families, load_family
from kdlib.experiments.recipes.resolve import find_recipes, recorded_recipe
from kdlib.experiments.recipes.schema import (
    DataSpec,
    NetworkSpec,
    Recipe,
    RunName,
    Stage,
    TermSpec,
    TrainingSpec,
)

__all__ = [
    "PROFILES",
    "DataSpec",
    "Family",
    "NetworkSpec",
    "Recipe",
    "RunName",
    "Stage",
    "TermSpec",
    "TrainingSpec",
    "families",
    "find_recipes",
    "load_family",
    "recorded_recipe",
]
