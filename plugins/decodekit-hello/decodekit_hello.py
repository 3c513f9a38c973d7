from dataclasses import dataclass

from decodekit import LogitsProcessor, hookimpl


@dataclass(frozen=True)
class Boost(LogitsProcessor):
    """Add `nats` to the logit of one token id."""

    id: int
    nats: float = 5.0

    def process(self, logits, step, state):
        return logits + (step.ids == self.id) * logits.dtype.type(self.nats)


@hookimpl
def register_logits_processors(register):
    register("boost", Boost)
