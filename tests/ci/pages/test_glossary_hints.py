"""Terms are marked where a reader meets them first, as whole words, and only in sentences."""

from __future__ import annotations

import pytest
from docutils import nodes

from ci.pages.sphinx.glossary_hints import Entry, is_prose, pattern_of, with_links

ENTRIES = {
    term: Entry(f"term-{term.replace(' ', '-')}", "…")
    for term in ("entropy", "cross-entropy", "logit", "logit matching", "batch", "claim")
}
PATTERN = pattern_of(tuple(ENTRIES))


def marked(text: str, seen: set[str] | None = None) -> list[str]:
    pieces = with_links(nodes.Text(text), PATTERN, ENTRIES, set() if seen is None else seen)
    return [piece.astext() for piece in pieces if isinstance(piece, nodes.reference)]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The cross-entropy of two batches.", ["cross-entropy", "batches"]),
        ("Logits, then logits again.", ["Logits"]),
        ("By logit\nmatching.", ["logit\nmatching"]),
        ("A minibatch, and logitech.", []),
        ("It claims that.", []),  # an everyday word
    ],
)
def test_terms_in_a_sentence(text: str, terms: list[str]) -> None:
    assert marked(text) == terms


def test_what_was_seen_is_not_marked_again_and_no_text_is_lost() -> None:
    seen: set[str] = set()
    text = "Entropy and logits."
    pieces = list(with_links(nodes.Text(text), PATTERN, ENTRIES, seen))
    assert "".join(piece.astext() for piece in pieces) == text
    assert seen == {"term-entropy", "term-logit"}
    assert marked(text, seen) == []


@pytest.mark.parametrize("around", [nodes.literal, nodes.title, nodes.reference, nodes.math])
def test_headings_code_links_and_formulas_are_not_prose(around: type[nodes.Element]) -> None:
    inside = around("", "", nodes.Text("entropy"))
    nodes.paragraph("", "", inside)
    assert not is_prose(inside.children[0])
    assert is_prose(nodes.paragraph("", "", nodes.Text("entropy")).children[0])
