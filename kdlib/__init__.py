"""Knowledge distillation: a frozen teacher, a student, and what the one learns from the other.

::

    from kdlib import Distiller, HardLabels, SoftTargets, create_model, evaluate, fit, load_data

`kdlib.course.figures`, the live figures, is imported by name: it needs the extra ``kdlib[notebook]``.
"""

from kdlib import losses, metrics
from kdlib.data import load_data
from kdlib.distiller import Distiller
from kdlib.models import create_model, tap
from kdlib.terms import (
    CRD,
    DIST,
    DKD,
    FSP,
    NST,
    OFD,
    PKT,
    VID,
    Attention,
    CorrelationCongruence,
    HardLabels,
    Hints,
    LogitMatching,
    Review,
    RKDAngle,
    RKDDistance,
    SimilarityPreserving,
    SoftTargets,
)
from kdlib.training import evaluate, fit, predict

__version__ = "0.1.0"

__all__ = [
    "CRD",
    "DIST",
    "DKD",
    "FSP",
    "NST",
    "OFD",
    "PKT",
    "VID",
    "Attention",
    "CorrelationCongruence",
    "Distiller",
    "HardLabels",
    "Hints",
    "LogitMatching",
    "RKDAngle",
    "RKDDistance",
    "Review",
    "SimilarityPreserving",
    "SoftTargets",
    "create_model",
    "evaluate",
    "fit",
    "load_data",
    "losses",
    "metrics",
    "predict",
    "tap",
]
