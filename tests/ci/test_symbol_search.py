"""Names of kdlib are taken from what a cell imports and uses, and from nothing else."""

from __future__ import annotations

import pytest

from ci.sphinx.symbol_search import names_in


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("from kdlib import fit, losses", {"kdlib", "kdlib.fit", "kdlib.losses"}),
        ("from kdlib.terms import CRD", {"kdlib.terms", "kdlib.terms.CRD"}),
        ("losses.soft_target_loss(a, b)", {"kdlib.losses.soft_target_loss"}),
        ("%pip install kdlib\nmetrics.ece(x)", {"kdlib.metrics.ece"}),
        ("from torch import nn\nnn.losses", set()),
        ("this is shown because it is wrong", set()),
    ],
)
def test_names_in_a_cell(code: str, names: set[str]) -> None:
    assert set(names_in(code)) == names
