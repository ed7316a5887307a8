"""Published numbers against the texts that they were copied from."""

import html
import re
from pathlib import Path

import pytest
import torchvision

from kdlib.experiments import find_recipes
from kdlib.experiments.report import published as module
from kdlib.experiments.report.published import published, published_names

SEEDS = Path(__file__).resolve().parents[3] / "shared" / "seeds"
NAMES = published_names()
FROM_REPOSITORIES = tuple(name for name in NAMES if "-logs-" in name or name == "001-runs")
IN_PER_CENT = ("001-methods", "001-runs", "003-results", "crd-cifar100")
RESULTS = ("accuracy", "loss", "logit difference")


# The tables of each seed in the order of its text; the last three of seed 002 hold pictures.
TABLES = {
    "000": ["pretraining", "fine-tuning", "student", "with-and-without-kd", "scheduler"],
    "001": ["methods", "datasets", "models", "details"],
    "002": ["alpha", "plots", "plots", "plots"],
    "003": [],
}


@pytest.fixture
def seed_text(lacking):
    """The text of the source that a table's name begins with."""

    def read(name):
        found = list(SEEDS.glob(f"{name[:3]}_*.txt"))
        if not found:
            lacking("seeds", f"the text of source {name[:3]} is not in {SEEDS}")
        return found[0].read_text(encoding="utf-8")

    return read


def markdown_tables(text):
    """Every table of a Markdown text as rows of cells, the header first; a line of rules makes a table."""
    found = re.finditer(r"^(.*\|.*)\n[ |:-]*\|[ |:-]*\n((?:.*\|.*\n?)+)", text, flags=re.MULTILINE)
    tables = [[table[1], *table[2].splitlines()] for table in found]
    return [[[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows] for rows in tables]


@pytest.mark.parametrize("name", [name for name in NAMES if name[0] == "0" and name not in FROM_REPOSITORIES])
def test_every_printed_cell_stands_in_the_seed(seed_text, name):
    text = seed_text(name)
    assert [cell.printed for cell in published(name).cells if cell.printed not in text] == []


@pytest.mark.parametrize("seed", TABLES)
def test_every_table_of_the_seeds_is_here(seed_text, seed):
    assert len(markdown_tables(seed_text(seed))) == len(TABLES[seed])


@pytest.mark.parametrize(
    "name", dict.fromkeys(f"{seed}-{name}" for seed, names in TABLES.items() for name in names)
)
def test_tables_are_whole_and_in_order(seed_text, name):
    """Cell for cell, with their headings: read off the seed by other code than wrote the files."""
    ours, names, expected = published(name), [], []
    for which, (header, *body) in zip(TABLES[name[:3]], markdown_tables(seed_text(name)), strict=True):
        if f"{name[:3]}-{which}" != name:
            continue
        if name == "001-methods":  # a second line of headings
            header = [", ".join(filter(None, both)) for both in zip(header, body.pop(0), strict=True)]
        # Where the first column has names, and is no column of ours, they are the names of our rows.
        skipped = 0 if header[0] in ours.columns else 1
        names += [re.sub(r" *<br.*|\*", "", row[0]) for row in body if skipped]
        expected += [pair for row in body for pair in list(zip(header, row, strict=True))[skipped:]]
    assert [(cell.column, cell.printed) for cell in ours.cells] == expected
    assert names in ([], [row.removeprefix("alpha ") for row in ours.rows])


def number(cell, name):
    """What a cell says, read anew: the first number printed, a per cent as a fraction."""
    if cell.metric == "parameters" and "'" in cell.printed:
        return int(re.sub(r"\D", "", cell.printed))
    first = re.search(r"\d+(\.\d+)?", cell.printed)
    in_per_cent = "%" in cell.printed or (cell.metric in (*RESULTS, "average") and name in IN_PER_CENT)
    return float(first[0]) / (100 if in_per_cent else 1)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_what_is_printed(name):
    for cell in published(name).cells:
        if cell.value is not None:
            assert cell.value == pytest.approx(number(cell, name), rel=1e-12), cell
        spread = re.search(r"\+/- *([\d.]+)", cell.printed)
        assert cell.sd == (float(spread[1]) if spread else None), cell


@pytest.mark.parametrize("name", NAMES)
def test_lines_are_consistent(name):
    for cell in published(name).cells:
        if cell.metric in RESULTS:
            assert cell.value is not None, cell
            assert cell.selection, cell
        if cell.metric == "accuracy":
            assert 0 < cell.value < 1, cell
        if cell.against:
            assert published(name).cell(cell.against, cell.column).metric == cell.metric, cell
        assert "|" not in cell.row + cell.column, cell


def test_printed_differences_are_to_the_baseline():
    """The seed's own arithmetic: within the rounding of its one decimal, one slip of its author aside."""
    table, wrong = published("001-methods"), []
    for cell in table.cells:
        if difference := re.search(r"\(([+-][\d.]+)\)", cell.printed):
            ours = 100 * (cell.value - table.cell("baseline", cell.column).value)
            if abs(ours - float(difference[1])) > 0.051:
                wrong.append((cell.row, cell.column, cell.note))
    assert wrong == [
        ("ST + AT", "avg", "over the four columns; its difference to 80.9 is 1.3, not the 1.5 printed")
    ]


def test_averages_over_the_row():
    table = published("001-methods")
    for row in table.rows:
        values = [table.cell(row, column).value for column in table.columns]
        assert values[-1] == pytest.approx(sum(values[:-1]) / 4, abs=0.00051)


def test_runs_are_behind_their_means():
    """The means that the README prints are those of the runs in its docs."""
    runs, means, off = published("001-runs"), published("001-methods"), []
    for mean in means.cells:
        behind = [
            run.value
            for run in runs.cells
            if run.row.rpartition(", run")[0] == mean.row and run.column == mean.column
        ]
        if behind and abs(sum(behind) / len(behind) - mean.value) > 0.00055:
            off.append((mean.row, mean.column))
    assert off == []


def test_runs_were_scored_on_9984_images():
    for run in published("001-runs").cells:
        right = run.value * 9984
        assert abs(right - round(right)) < 0.02, run
    assert any(abs(run.value * 1e4 - round(run.value * 1e4)) > 0.02 for run in published("001-runs").cells)


def test_losses_of_two_kinds_have_no_difference():
    """Squares of logit differences at alpha 0, cross-entropy at alpha 1."""
    losses = [cell for cell in published("002-alpha").cells if cell.metric == "loss"]
    assert [(cell.row, cell.against) for cell in losses] == [
        ("alpha 0", ""),
        ("alpha 0.5", ""),
        ("alpha 1", ""),
    ]


@pytest.mark.parametrize(
    ("row", "name"), [("ResNet-50, teacher", "resnet50"), ("ResNet-18, student", "resnet18")]
)
def test_sizes_are_those_of_the_networks(row, name):
    network = getattr(torchvision.models, name)(num_classes=2)
    weights = sum(parameter.numel() for parameter in network.parameters())
    assert published("002-statements").cell(row, "parameters").value == weights


def test_the_best_epoch_flatters():
    """Why the selection is told: 84.5 % with and 82.8 % without distillation at the best, then no gain."""
    best, last = published("000-scheduler"), published("000-logs-last-epoch")
    row = "KD, constant, 0.0001"
    gain = [t.cell(f"with {row}", c).value - t.cell(f"without {row}", c).value
            for t, c in ((best, "Top-1 Accuracy"), (last, "last epoch"))]  # fmt: skip
    assert gain == [pytest.approx(0.017), 0]


def test_the_figures_of_the_design():
    table = published("crd-cifar100")
    design = """69.06 / 70.66 / 70.55 / 71.16 / 71.97 · 69.06 / 70.67 / 70.22 / 71.46 ·
                71.14 / 73.08 / 72.31 / 73.48 / 74.11 · 72.50 / 73.33 / 73.44 / 75.51 / 76.32"""
    assert [cell.printed for cell in table.cells] == re.findall(r"[\d.]+", design)
    assert {cell.row: cell.selection for cell in table.cells}["DKD"] == "best"
    assert {cell.selection for cell in table.cells if cell.row != "DKD"} == {"last"}


def test_tables_as_printed():
    shown = published("000-with-and-without-kd")._repr_html_()
    assert html.escape("&#10003;") in shown
    assert "**84.5%**" in shown
    assert "seed 000" in shown


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(ValueError, match=r"no published table '001-method'; did you mean '001-methods'"):
        published("001-method")
    with pytest.raises(ValueError, match="no cell in row 'KD', column 'avg'"):
        published("001-methods").cell("KD", "avg")


def test_without_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setenv("KDLIB_PUBLISHED", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="come with a checkout of the course, and KDLIB_PUBLISHED"):
        published_names()


@pytest.fixture
def written(monkeypatch, tmp_path):
    """Write a table with one line, and a section about it."""
    monkeypatch.setenv("KDLIB_PUBLISHED", str(tmp_path))

    def write(line, about='[a]\ntitle = "t"\nsource = "s"\nurl = ""\nselection = "x"\n'):
        header = "row,column,printed,value,sd,n,metric,selection,recipe,against,note"
        (tmp_path / "a.csv").write_text(f"{header}\n{line}\n")
        (tmp_path / "sources.toml").write_text(about)
        module._read.cache_clear()

    return write


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("r,c,90,0.9,,3,accuracy,final,,,", r"line 2: the selection 'final' is none of"),
        ("r,c,90,ninety,,3,accuracy,last,,,", r"line 2 is not a cell of a published table: .*'ninety'"),
        ("r,c,90,0.9,,3,accuracy,last,,,,more", r"line 2 is not a cell"),
    ],
)
def test_bad_lines_are_named(written, line, message):
    written(line)
    with pytest.raises(ValueError, match=message):
        published("a")


def test_tables_without_a_source_are_refused(written):
    written("r,c,90,0.9,,3,accuracy,last,,,", about="")
    with pytest.raises(ValueError, match=r"sources.toml has no section \[a\]"):
        published("a")


def test_recipes_exist():
    """Every recipe named beside a published number, in each profile."""
    for name in sorted({cell.recipe for table in NAMES for cell in published(table).cells} - {""}):
        for profile in ("full", "short", "quick"):
            assert [found.name for found in find_recipes(name, profile=profile)] == [name]


def test_the_last_of_20_epochs_is_the_last_epoch():
    """Copied off the logs twice; and no epoch is above the best one that the README prints."""
    curves, last, best = (
        published(f"000-{name}") for name in ("logs-last-20", "logs-last-epoch", "scheduler")
    )
    for row in best.rows:
        curve = [curves.cell(row, f"epoch {epoch}").value for epoch in range(101, 121)]
        assert curve[-1] == last.cell(row, "last epoch").value, row
        assert max(curve) <= best.cell(row, "Top-1 Accuracy").value, row  # type: ignore[type-var]
    again = curves.cell("without KD, constant, 0.0002, again", "epoch 120").value
    assert again == published("000-logs-alpha").cell("alpha 1", "last epoch").value
