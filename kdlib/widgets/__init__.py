"""Live figures: widgets in a notebook, alive in a page without a kernel, pictures without scripts."""

from kdlib.widgets.attention import AttentionFigure
from kdlib.widgets.bias import BiasFigure
from kdlib.widgets.explorer import SweepExplorer
from kdlib.widgets.feature import FeatureFigure
from kdlib.widgets.kl_loss import KLLossFigure
from kdlib.widgets.live import LiveFigure
from kdlib.widgets.parts import PartsFigure
from kdlib.widgets.relation import RelationFigure
from kdlib.widgets.seeds import SeedsFigure
from kdlib.widgets.soft_label import SoftLabelFigure
from kdlib.widgets.temperature import TemperatureFigure

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
