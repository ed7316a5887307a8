"""The generated pages that say what ran, and list every claim with its value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ci.chapters import Chapter
from ci.pages import status

CHAPTER = Chapter("02-library", "Library", {"quick": 60}, {}, {}, Path("02-library.ipynb"))


def executed(*claims: dict[str, Any], seconds: float = 31.4) -> dict[str, Any]:
    """An executed notebook with these claims."""
    noted = {
        "profile": "short",
        "parameters": {"profile": "short", "n_seeds": 20},
        "started": "2026-11-21T10:02:03+00:00",
        "seconds": seconds,
        "budget": 60,
        "device": "CPU",
        "commit": "abc1234",
        "versions": {"python": "3.11.7", "torch": "2.12.1"},
        "data": [{"data": "digits (honest)", "images": {"train": 898}, "fingerprint": "683b867e"}],
    }
    outputs = [{"output_type": "display_data", "data": {status.CLAIM: claim}} for claim in claims]
    return {
        "metadata": {"course": noted},
        "cells": [{"cell_type": "markdown"}, {"cell_type": "code", "outputs": outputs}],
    }


def test_an_execution_is_told_whole() -> None:
    page = status.status_page([(CHAPTER, executed())])
    assert "| [Library](02-library.ipynb) | short, `n_seeds = 20` | 2026-11-21 10:02 | 31 s | 60 s |" in page
    assert "| CPU | abc1234 |" in page
    assert "python 3.11.7, torch 2.12.1" in page
    assert "digits (honest): 898 images to train on, fingerprint `683b867e`" in page


def test_data_that_an_older_execution_did_not_note() -> None:
    notebook = executed()
    del notebook["metadata"]["course"]["data"]
    assert "- [Library](02-library.ipynb): not noted" in status.status_page([(CHAPTER, notebook)])
    notebook["metadata"]["course"]["data"] = []
    assert "- [Library](02-library.ipynb): none" in status.status_page([(CHAPTER, notebook)])


def test_an_execution_over_its_budget_is_marked() -> None:
    assert "| 61 s (over) | 60 s |" in status.status_page([(CHAPTER, executed(seconds=61))])


@pytest.mark.parametrize(
    ("bounds", "required"),
    [
        ({"at_least": 2.0, "at_most": None}, "at least 2 points"),
        ({"at_least": None, "at_most": 9.5}, "at most 9.5 points"),
        ({"at_least": 2.0, "at_most": 9.5}, "2 to 9.5 points"),
    ],
)
def test_a_claim_is_listed_with_value_and_bounds(bounds: dict[str, Any], required: str) -> None:
    claim = {"sentence": "Taught beats alone | by far", "value": 4.3217, "unit": "points", **bounds}
    page = status.claims_page([(CHAPTER, executed(claim))])
    assert "## [Library](02-library.ipynb)" in page
    assert "Last run: 2026-11-21 10:02 UTC, profile short, `n_seeds = 20`, on CPU, commit abc1234." in page
    assert f"| Taught beats alone \\| by far | 4.322 points | {required} |" in page


def test_a_claim_on_a_difference_is_listed_with_its_interval() -> None:
    of_seeds = {"low": -0.4, "high": 7.26, "seeds": 20}
    claim = {"sentence": "It gains", "value": 3.5, "unit": "points", "at_least": -1, "at_most": None}
    page = status.claims_page([(CHAPTER, executed(claim | of_seeds))])
    row = "| It gains | 3.5 points (95 % interval −0.4 to 7.3, 20 seeds) | at least −1 points |"
    assert row in page


def test_a_chapter_without_claims_has_no_empty_table() -> None:
    assert "##" not in status.claims_page([(CHAPTER, executed()), (CHAPTER, None)])
