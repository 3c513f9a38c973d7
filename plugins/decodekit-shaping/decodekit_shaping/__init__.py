"""
Shaping: strategies that move probability between candidates, for liveliness rather than safety.

Each file holds one idea: a function with the mathematics and the strategies around it.
"""

from decodekit import hookimpl
from decodekit_shaping.adaptive_p import AdaptiveP
from decodekit_shaping.dynamic_temperature import DynamicTemperature
from decodekit_shaping.skew import Skew
from decodekit_shaping.smoothing import Smoothing
from decodekit_shaping.xtc import Xtc, XtcExpected

__all__ = ["AdaptiveP", "DynamicTemperature", "Skew", "Smoothing", "Xtc", "XtcExpected"]


@hookimpl
def register_logits_processors(register):
    register("dynamic_temperature", DynamicTemperature)
    register("smoothing", Smoothing)
    register("skew", Skew)
    register("xtc", Xtc)
    register("xtc_expected", XtcExpected)
    register("adaptive_p", AdaptiveP)
