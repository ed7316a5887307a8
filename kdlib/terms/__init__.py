"""The terms that a `Distiller` composes: each a loss of `kdlib.losses`, a weight, and what it looks at.

One file per kind of knowledge, as in `kdlib.losses`. A new method is one function there and one class here.
"""

from kdlib.terms.attention import Attention
from kdlib.terms.base import EMBEDDING, Example, LayerTerm, Outputs, Term
from kdlib.terms.contrast import CRD
from kdlib.terms.features import OFD, VID, Hints, Review
from kdlib.terms.flow import FSP
from kdlib.terms.logits import DIST, DKD, HardLabels, LogitMatching, SoftTargets
from kdlib.terms.registry import register
from kdlib.terms.relations import (
    NST,
    PKT,
    CorrelationCongruence,
    RKDAngle,
    RKDDistance,
    SimilarityPreserving,
)
from kdlib.terms.weights import LinearWarmUp

__all__ = [
    "CRD",
    "DIST",
    "DKD",
    "EMBEDDING",
    "FSP",
    "NST",
    "OFD",
    "PKT",
    "VID",
    "Attention",
    "CorrelationCongruence",
    "Example",
    "HardLabels",
    "Hints",
    "LayerTerm",
    "LinearWarmUp",
    "LogitMatching",
    "Outputs",
    "RKDAngle",
    "RKDDistance",
    "Review",
    "SimilarityPreserving",
    "SoftTargets",
    "Term",
    "register",
]
