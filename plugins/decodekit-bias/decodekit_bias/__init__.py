"""
Bias: strategies that push, ban, allow or force tokens, and sequences of them.

Each touches the few candidates it names, whatever the size of the vocabulary.
"""

from decodekit import hookimpl
from decodekit_bias.allowed_tokens import AllowedTokens
from decodekit_bias.bad_words import BadWords
from decodekit_bias.forced_prefix import ForcedPrefix
from decodekit_bias.length_decay import LengthDecay
from decodekit_bias.sequence_bias import SequenceBias
from decodekit_bias.suppress_at_begin import SuppressAtBegin

__all__ = ["AllowedTokens", "BadWords", "ForcedPrefix", "LengthDecay", "SequenceBias", "SuppressAtBegin"]


@hookimpl
def register_logits_processors(register):
    register("sequence_bias", SequenceBias)
    register("bad_words", BadWords)
    register("allowed_tokens", AllowedTokens)
    register("suppress_at_begin", SuppressAtBegin)
    register("forced_prefix", ForcedPrefix)
    register("length_decay", LengthDecay)
