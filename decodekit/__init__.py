"""
decodekit: sampling and decoding for ONNX language models, with pluggable strategies.

    import decodekit
    print(decodekit.load("tagline").generate("Give me a tagline for a new coffee shop.").text)

Read the modules in the order the data flows:
bundle -> chat -> model -> processors -> sampling -> stopping -> generate;
slots -> batch -> engine -> preparation -> decoder; then hookspecs -> plugins.
"""

from decodekit.answer import Token
from decodekit.beam import Beam
from decodekit.bundle import Bundle, open_bundle
from decodekit.completion import Completion
from decodekit.decoder import Decoder
from decodekit.edits import Edits, mask_of
from decodekit.errors import DecodekitError
from decodekit.generate import stream
from decodekit.history import History
from decodekit.hookspecs import Command, hookimpl
from decodekit.loading import load
from decodekit.model import Model
from decodekit.plugins import load_plugins
from decodekit.processors import LogitsProcessor, Step
from decodekit.sampling import Sampler
from decodekit.session import Session
from decodekit.stopping import Progress, Stop, StoppingCriterion
from decodekit.text_stream import TextStream

__all__ = [
    "Beam",
    "Bundle",
    "Command",
    "Completion",
    "DecodekitError",
    "Decoder",
    "Edits",
    "History",
    "LogitsProcessor",
    "Model",
    "Progress",
    "Sampler",
    "Session",
    "Step",
    "Stop",
    "StoppingCriterion",
    "TextStream",
    "Token",
    "hookimpl",
    "load",
    "load_plugins",
    "mask_of",
    "open_bundle",
    "stream",
]
