"""What holds where torch is not installed: the module loads, and says what is missing where it is used."""

import sys

import pytest
from decodekit_transformers import Wrapped, WrappedCriterion

from decodekit.errors import PluginError


@pytest.mark.parametrize("wrapper", [Wrapped, WrappedCriterion])
def test_without_torch_the_error_says_how_to_get_it(wrapper, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(PluginError, match=rf"{wrapper.__name__} needs torch; pip install"):
        wrapper(lambda ids, scores: scores)
