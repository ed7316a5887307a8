"""The page on machines: its table of costs is what `kd cost` counts; one device is its first column."""

from pathlib import Path

from kdlib.sweeps.cost import cost_table

PAGE = Path(__file__).parents[1] / "book" / "machines.md"


def test_the_table_of_costs_is_todays():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("| table | runs |"))
    shown = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        shown.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    assert shown == list(cost_table("*", "full", device="H200", devices=(8, 64)).rows)
