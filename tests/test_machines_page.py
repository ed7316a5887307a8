"""The page on machines: its table of costs is what the recipes have, at the speeds that it assumes."""

import re
from pathlib import Path

from kdlib.experiments.recipes import find_recipes
from kdlib.experiments.sweeps import run_graph
from kdlib.experiments.sweeps.cost import NOT_MEASURED, _by_table, cost_table, images_seen

PAGE = Path(__file__).parents[1] / "book" / "machines.md"


def test_the_table_of_costs_is_todays():
    text = PAGE.read_text(encoding="utf-8")
    small, large = (
        float(speed.replace(",", "")) for speed in re.findall(r"\*\*([\d,]+)\s+images a\s+second\*\*", text)
    )
    recipes = {recipe.name: recipe for recipe in find_recipes("*", "full")}
    expected = []
    for name, chosen in [*_by_table(recipes), ("all recipes", list(recipes.values()))]:
        runs = [job.run.recipe for job in run_graph(chosen).values()]
        hours = sum(
            images_seen(run) / (small if (run.data.size or 32) == 32 else large) / 3600 for run in runs
        )
        images = sum(map(images_seen, runs)) / 1e6
        expected.append((name, str(len(runs)), f"{images:,.1f}", f"{hours:.1f}"))
    rows = re.findall(r"^\| ([\w -]+) \| (\d+) \| ([\d,.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    assert rows == expected


def test_nothing_was_measured_in_full_yet_so_that_the_page_says_assumed():
    assert all(NOT_MEASURED in row for row in cost_table("*", "full", device="cuda").rows)
