"""Ray Serve warns where it is imported, and warnings are errors here."""

import contextlib
import importlib
import warnings

with warnings.catch_warnings(), contextlib.suppress(ImportError):
    warnings.simplefilter("ignore")
    importlib.import_module("ray.serve")
