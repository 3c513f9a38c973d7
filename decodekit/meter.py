"""A meter: where the time of an engine goes."""

from dataclasses import dataclass, fields


@dataclass
class Meter:
    """Counts since it was made or reset.

    steps          turns in which running requests took a step
    tokens         generated
    prompt_tokens  read
    reused         tokens of prompts that were copied instead of read
    seconds        the engine's thread was busy
    graph          of these, inside the model's graph
    chain          of these, inside the samplers
    """

    steps: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    reused: int = 0
    seconds: float = 0.0
    graph: float = 0.0
    chain: float = 0.0

    def reset(self) -> None:
        """Begin again from zero."""
        for field in fields(self):
            setattr(self, field.name, field.default)
