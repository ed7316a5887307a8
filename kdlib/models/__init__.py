"""Networks by name, taps into them, what joins two of them, and teachers that serve as controls."""

from kdlib.models.connectors import Regressor, ReviewFusion, VIDRegressor
from kdlib.models.controls import MissingTeacher, NoisyTeacher, ShuffledTeacher
from kdlib.models.frozen import freeze
from kdlib.models.registry import count_parameters, create_model, list_models
from kdlib.models.taps import Taps, tap

__all__ = [
    "MissingTeacher",
    "NoisyTeacher",
    "Regressor",
    "ReviewFusion",
    "ShuffledTeacher",
    "Taps",
    "VIDRegressor",
    "count_parameters",
    "create_model",
    "freeze",
    "list_models",
    "tap",
]
