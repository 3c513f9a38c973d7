"""Which slow reference belongs to the strategy of a name."""

from exactness import history_reference, reference, shaping_reference

MODULES = (reference, shaping_reference, history_reference)


def definition(name):
    return next(getattr(module, name) for module in MODULES if hasattr(module, name))


def looks_back(name):
    """Whether it depends on the ids before."""
    return hasattr(history_reference, name)
