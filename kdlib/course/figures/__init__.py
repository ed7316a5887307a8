"""Live figures: widgets in a notebook, alive in a page without a kernel, pictures without scripts."""

from kdlib.course.figures.attention import AttentionFigure
from kdlib.course.figures.bias import BiasFigure
from kdlib.course.figures.explorer import SweepExplorer
from kdlib.course.figures.feature import FeatureFigure
from kdlib.course.figures.kl_loss import KLLossFigure
from kdlib.course.figures.live import LiveFigure
from kdlib.course.figures.parts import PartsFigure
from kdlib.course.figures.relation import RelationFigure
from kdlib.course.figures.seeds import SeedsFigure
from kdlib.course.figures.soft_label import SoftLabelFigure
from kdlib.course.figures.temperature import TemperatureFigure

__all__ = [
    "AttentionFigure",
    "BiasFigure",
    "FeatureFigure",
    "KLLossFigure",
    "LiveFigure",
    "PartsFigure",
    "RelationFigure",
    "SeedsFigure",
    "SoftLabelFigure",
    "SweepExplorer",
    "TemperatureFigure",
]
