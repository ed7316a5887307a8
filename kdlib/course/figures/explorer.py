"""The sweep explorer of part III: recorded runs by data set, sweep and metric, as curves and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from kdlib.course.figures.choices import (
    METRICS,
    Method,
    Metric,
    Recipes,
    published_cells,
)
from kdlib.course.figures.live import LiveFigure, module
from kdlib.experiments.index import RecordIndex
from kdlib.experiments.report.measurements import LEFT_OUT, NOT_RUN, PROFILES
from kdlib.experiments.report.table import Table, table
from kdlib.training.record import RunRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kdlib.experiments.report.published import PublishedCell

VIEWS = ("all epochs", "second half")
# The light values of explorer.js; the first is for what the others are measured against.
COLOURS = ("#6b7480", "#00835f", "#c45500", "#0072b2", "#b0508f", "#8a6a00")


class SweepExplorer(LiveFigure):
    """Every recorded run of some sweeps: choose data set, sweep and metric; curves and table follow.

    The choices are those of the recipes, whether they have been run or not. Runs come from ``data/results``;
    quick ones, which are not kept there, from the notebook. A record counts where its recipe is today's.

    Args:
        sweeps: for each sweep its recipes, as one pattern of their names or several. On every data set, the
            first of them is what the others are measured against.
        names: what to call methods, by what they are called without it, {"st": "soft targets"}.
        live: records of this notebook.

    `figure.data`, `figure.sweep`, `figure.metric`, `figure.view`, `figure.epoch` (0 is the last) and
    `figure.hidden` (methods without their curves) follow the reader's choice in a notebook.

    Raises:
        ValueError: there is no sweep, no recipe of such a name, or a record that is none.
        FileNotFoundError: the folder of the published tables is not there.
    """

    _esm = module("explorer")
    controls = ("data", "sweep", "metric", "view", "epoch", "hidden")
    size = (8.4, 3.6)

    data = traitlets.Unicode().tag(sync=True)
    sweep = traitlets.Unicode().tag(sync=True)
    metric = traitlets.Unicode(METRICS[0].name).tag(sync=True)
    view = traitlets.Unicode(VIEWS[0]).tag(sync=True)
    epoch = traitlets.Int(0).tag(sync=True)
    hidden = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        sweeps: Mapping[str, str | Sequence[str]],
        names: Mapping[str, str] | None = None,
        live: Iterable[RunRecord] = (),
    ) -> None:
        if not sweeps:
            raise ValueError(
                "there is no sweep to explore; give a name and a pattern of recipes for one or more."
            )
        state = _state(sweeps, names or {}, live)
        data, sweep = _first_choice(state)
        super().__init__(state=state, data=data, sweep=sweep)

    @traitlets.validate("data", "sweep", "metric", "view")
    def _check_choice(self, proposal: Any) -> str:
        name = proposal.trait.name
        known: Sequence[str] = {
            "data": list(self.state["data"]),
            "sweep": self.state["sweeps"],
            "metric": [metric["name"] for metric in self.state["metrics"]],
            "view": VIEWS,
        }[name]
        if proposal.value not in known:
            raise ValueError(
                f"{name} must be one of {', '.join(map(repr, known))}, but is {proposal.value!r}"
            )
        return str(proposal.value)

    @traitlets.validate("epoch")
    def _check_epoch(self, proposal: Any) -> int:
        if proposal.value < 0:
            raise ValueError(f"epoch must be 0, for the last, or more, but is {proposal.value}")
        return int(proposal.value)

    @traitlets.validate("hidden")
    def _check_hidden(self, proposal: Any) -> list[str]:
        known = {
            method["label"]
            for sweeps in self.state["data"].values()
            for chosen in sweeps
            for method in chosen["methods"]
        }
        for label in proposal.value:
            if label not in known:
                raise ValueError(f"hidden must name methods, {', '.join(sorted(known))}, but has {label!r}")
        return list(proposal.value)

    def table(self) -> Table:
        """The table below the curves, as it stands."""
        chosen = self._chosen()
        header = ["method", "last epoch", f"Δ to {chosen['baseline']}", "best on test", "published"]
        rows = [[method["label"], *self._row(method)] for method in chosen["methods"]]
        return table(header, rows, self._caption())

    def alt_text(self) -> str:
        chosen = self._chosen()
        run = [method for method in chosen["methods"] if method["seeds"]]
        where = f"{self.metric[:1].upper()}{self.metric[1:]} of {self.sweep} on {self.data}"
        if not chosen["methods"]:
            return f"{where}: there is no recipe for it."
        if not run:
            asked = "; ".join(chosen["commands"])
            return (
                f"{where}: none of {len(chosen['methods'])} methods has been run yet. To run them: {asked}."
            )
        said = "; ".join(f"{method['label']} {self._row(method)[0]}" for method in run)
        missing = [method["label"] for method in chosen["methods"] if not method["seeds"]]
        left = f" {NOT_RUN.capitalize()}: {', '.join(missing)}." if missing else ""
        return f"{where}, after the last epoch, mean ± standard deviation (seeds): {said}.{left}"

    def draw(self, figure: Figure) -> None:
        axes, chosen = figure.subplots(), self._chosen()
        drawn = [
            (place, method["label"], curve)
            for place, method in enumerate(chosen["methods"])
            if (curve := method["curves"][self._place()]) and method["label"] not in self.hidden
        ]
        for place, label, curve in drawn:
            seeds = np.array(curve["seeds"])
            epochs = curve["first"] + curve["step"] * np.arange(seeds.shape[1])
            shown = epochs >= (epochs[-1] / 2 if self.view == VIEWS[1] else 0)
            colour = _colour(place, len(chosen["methods"]))
            axes.plot(epochs[shown], seeds.T[shown], color=colour, linewidth=0.7, alpha=0.45)
            axes.plot(epochs[shown], seeds.mean(axis=0)[shown], color=colour, label=label)
        if drawn:
            axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        else:
            axes.text(0.5, 0.5, NOT_RUN, ha="center", transform=axes.transAxes)
            axes.set(xticks=[], yticks=[])
        axes.set_xlabel("epoch")
        axes.set_title(f"{self._caption()} {self._unit()}".strip(), fontsize=10, loc="left")

    def _place(self) -> int:
        return [metric["name"] for metric in self.state["metrics"]].index(self.metric)

    def _unit(self) -> str:
        unit = self.state["metrics"][self._place()]["unit"]
        return f"({unit})" if unit else ""

    def _caption(self) -> str:
        return f"{self.sweep}, {self.data}: {self.metric}"

    def _chosen(self) -> dict[str, Any]:
        chosen: dict[str, Any] = self.state["data"][self.data][self.state["sweeps"].index(self.sweep)]
        return chosen

    def _row(self, method: Mapping[str, Any]) -> list[str]:
        row: list[str] = method["rows"][self._place()]
        return row


def _colour(place: int, count: int) -> Any:
    """Of one of several curves; where they are many, those after the first are in order."""
    from matplotlib import colormaps

    if place == 0 or count <= len(COLOURS):
        return COLOURS[place]
    return colormaps["viridis"](0.9 * (place - 1) / (count - 2))


def _state(
    sweeps: Mapping[str, str | Sequence[str]], names: Mapping[str, str], live: Iterable[RunRecord]
) -> dict[str, Any]:
    patterns = {sweep: [given] if isinstance(given, str) else list(given) for sweep, given in sweeps.items()}
    recipes = Recipes(pattern for given in patterns.values() for pattern in given)
    index = RecordIndex(live)
    methods: dict[str, dict[str, list[Method]]] = {}
    for profile in PROFILES:
        for sweep, given in patterns.items():
            for data, found in recipes.by_data(recipes.fitting(given, profile), index, names).items():
                methods.setdefault(data, {})[sweep] = found
    metrics, printed = _metrics(methods), published_cells()
    return {
        "sweeps": list(sweeps),
        "views": list(VIEWS),
        "metrics": [
            {
                "name": metric.name,
                "unit": "%" if metric.published == "accuracy" else "",
                "note": metric.note,
            }
            for metric in metrics
        ],
        "data": {
            data: [_sweep(found.get(sweep, []), metrics, recipes, index, printed) for sweep in sweeps]
            for data, found in methods.items()
        },
    }


def _metrics(methods: Mapping[str, Mapping[str, Sequence[Method]]]) -> list[Metric]:
    """What every record has, and the terms of the losses of those that are there."""
    known = {metric.key for metric in METRICS}
    terms = dict.fromkeys(
        key
        for sweeps in methods.values()
        for of_sweep in sweeps.values()
        for method in of_sweep
        for run in method.runs.values()
        for key in run.epochs
        if key not in known
    )
    return [
        *METRICS,
        *(Metric(key, f"training, term: {key}", note="Before its weight in the loss.") for key in terms),
    ]


def _sweep(
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    recipes: Recipes,
    index: RecordIndex,
    printed: Mapping[tuple[str, str], list[PublishedCell]],
) -> dict[str, Any]:
    """One sweep on one data set, as the figure's module takes it."""
    if not methods:
        return {
            "profile": "",
            "baseline": "",
            "about": ["There is no recipe for it."],
            "commands": [],
            "methods": [],
        }
    baseline = methods[0]
    return {
        "profile": baseline.recipe.profile,
        "baseline": baseline.label,
        "about": _about(methods, index),
        "commands": recipes.commands(methods),
        "methods": [
            {
                "label": method.label,
                "seeds": list(method.runs),
                "rows": [
                    [*method.row(metric, baseline), _printed(method, metric, printed)] for metric in metrics
                ],
                "curves": [method.curve(metric) for metric in metrics],
            }
            for method in methods
        ],
    }


def _about(methods: Sequence[Method], index: RecordIndex) -> list[str]:
    """What a reader must know of the numbers: profile, networks, teacher, and what is left out."""
    recipe, teachers = methods[0].recipe, {}
    for method in methods:
        if taught_by := method.recipe.teacher:
            run = None if taught_by.seed is None else index.run(taught_by.recipe, taught_by.seed)
            scored = f": {100 * run.final['accuracy']:.1f} %" if run and run.final else ""
            which = "the student's own seed" if taught_by.seed is None else f"seed {taught_by.seed}"
            teachers[f"{taught_by.recipe.student.name} ({which}{scored})"] = True
    epochs = " or ".join(map(str, sorted({method.recipe.training.epochs for method in methods})))
    sentences = [
        f"{recipe.profile.title()}: {PROFILES[recipe.profile]}.",
        f"Student {recipe.student.name}, teacher {' or '.join(teachers) or 'none'}, "
        f"{epochs} epochs of {recipe.data.name}.",
    ]
    steps = {curve["step"] for method in methods for metric in METRICS if (curve := method.curve(metric))}
    if thinned := " or ".join(str(step) for step in sorted(steps) if step > 1):
        sentences.append(f"The curves show one epoch in {thinned}; the table uses all.")
    if outdated := set[str]().union(*(index.outdated(method.recipe, method.names) for method in methods)):
        sentences.append(f"{LEFT_OUT}: {len(outdated)} of our records.")
    return sentences


def _printed(method: Method, metric: Metric, printed: Mapping[tuple[str, str], list[PublishedCell]]) -> str:
    """The published numbers of the recipe; none beside digits, or where a line is of two."""
    known = [name for name in method.names if (name, metric.published) in printed]
    if len(known) != 1 or method.recipe.profile == "quick":
        return ""
    return "; ".join(dict.fromkeys(cell.in_words() for cell in printed[known[0], metric.published]))


def _first_choice(state: Mapping[str, Any]) -> tuple[str, str]:
    """The first in which two methods can be compared, of the longest profile; or one can be seen."""
    profiles = list(PROFILES)
    choices = [
        (min(sum(bool(method["seeds"]) for method in found["methods"]), 2), found["profile"], data, sweep)
        for data, sweeps in state["data"].items()
        for sweep, found in zip(state["sweeps"], sweeps, strict=True)
        if found["methods"]
    ]
    _, _, data, sweep = max(choices, key=lambda choice: (choice[0], -profiles.index(choice[1])))
    return data, sweep
