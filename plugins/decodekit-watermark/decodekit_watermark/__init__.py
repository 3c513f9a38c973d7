"""
Watermarks: a pattern in the choice of tokens that whoever has the key can find, and nobody sees.

A mark is a pure function of a key, the few tokens before and the candidate (`context`). `kgw` makes
a share of the candidates more likely, `gumbel_watermark` draws with noise that the key determines.
`detection` counts in a text what the mark would have left, and says how likely chance alone is.
"""

from decodekit.hookspecs import Register, hookimpl
from decodekit_watermark.command import Watermark
from decodekit_watermark.detection import detect
from decodekit_watermark.evidence import Detection
from decodekit_watermark.gumbel import GumbelWatermark
from decodekit_watermark.kgw import Kgw

__all__ = ["Detection", "GumbelWatermark", "Kgw", "detect"]


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("kgw", Kgw)
    register("gumbel_watermark", GumbelWatermark)


@hookimpl
def register_commands(register: Register) -> None:
    register("watermark", Watermark)
