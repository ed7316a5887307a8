"""Networks by name, taps into them, what joins two of them, and teachers that serve as controls."""

from kdlib.models.connectors import Regressor, ReviewFusion, VIDRegressor
from kdlib.models.controls import MissingTeacher, NoisyTeacher, ShuffledTeacher
from kdlib.models.ensemble import Ensemble
from kdlib.models.registry import count_parameters, create_model, list_models, register
from kdlib.models.taps import Taps, tap
from kdlib.models.view import View

__all__ = [
    "Ensemble",
    "MissingTeacher",
    "NoisyTeacher",
    "Regressor",
    "ReviewFusion",
    "ShuffledTeacher",
    "Taps",
    "VIDRegressor",
    "View",
    "count_parameters",
    "create_model",
    "list_models",
    "register",
    "tap",
]
