"""decodekit-export: PyTorch decoders to ONNX bundles that provably compute the same."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before any module here imports onnxruntime

__version__ = "0.1.0"
