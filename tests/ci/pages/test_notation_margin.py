"""Symbols are found in formulas as a reader would find them, indices, accents and arguments included."""

from __future__ import annotations

import pytest

from ci.pages.sphinx.notation_margin import Atom, Symbol, atoms, patterns_of, symbols_in

ROWS = {
    "y": ["y"],
    "C": ["C"],
    "z_c": ["z_c"],
    "z^s": ["z^s"],
    "T": ["T"],
    "H(p)": ["H(p)"],
    "H(p,q)": ["H(p, q)"],
    "KL": [r"\mathrm{KL}(p \,\Vert\, q)"],
    "w_h": ["w_h"],
    "hat p": ["b", r"\hat p"],
    "d_ij": ["d_{ij}"],
}
TABLE = [Symbol(patterns_of(formulas), name, "") for name, formulas in ROWS.items()]


@pytest.mark.parametrize(
    ("formula", "names"),
    [
        (r"T^2 \, \mathrm{KL}", {"T", "KL"}),
        (r"\frac{z^s_c}{T}", {"z^s", "T"}),
        ("z_c - z_k", {"z_c"}),
        ("z_{nc}", {"z_c"}),
        ("w_h H(y, p)", {"w_h", "H(p,q)", "y"}),
        (r"\mathrm{H}(p)", {"H(p)"}),
        (r"H = -\sum_c p_c \log p_c", {"H(p)"}),
        (r"\frac{1}{H W}", set()),  # a height
        (r"F F^\top", set()),
        ("y_k = W_k", set()),  # not the labels
        ("1 - p_y", {"y"}),
        (r"\log \frac{p_a}{p_b}", set()),  # b is a class here
        (r"\mathrm{KL}(\hat p^t \Vert \hat p^s)", {"KL", "hat p"}),
        (r"d^s_{ij}", {"d_ij"}),
        (r"\mathcal{L}_\mathrm{CRD}", set()),  # no C in it
        (r"e^{z^s_k / T}", {"z^s", "T"}),
    ],
)
def test_symbols_in_a_formula(formula: str, names: set[str]) -> None:
    assert {TABLE[place].shown for place in symbols_in([formula], TABLE)} == names


def test_an_atom_has_its_indices_and_arguments() -> None:
    assert next(atoms(r"\hat p^{t}_{nc}(x, y) = 1")) == Atom(r"\hatp", "t", "nc", 2, False)


@pytest.mark.parametrize("formula", ["", "^", "{", r"x_{", r"\hat", "H(p", "}}", "a^"])
def test_a_broken_formula_hides_no_symbol_before_it(formula: str) -> None:
    assert "T" in {TABLE[place].shown for place in symbols_in([f"T + {formula}"], TABLE)}
