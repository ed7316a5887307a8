"""A trained network leaves Python: written to a file, checked there, and timed."""

from kdlib.deploy.export import (
    Exported,
    FromPixels,
    export_onnx,
    export_program,
    load_onnx,
    load_program,
    pixels,
    quantize_onnx,
)
from kdlib.deploy.latency import Latency, measure_latency

__all__ = [
    "Exported",
    "FromPixels",
    "Latency",
    "export_onnx",
    "export_program",
    "load_onnx",
    "load_program",
    "measure_latency",
    "pixels",
    "quantize_onnx",
]
