"""Plugins: find what is installed, ask each what it registers, look strategies up by name."""

from decodekit.plugins.discovery import BUILT_IN, GROUP, Plugins, load_plugins, shadowed
from decodekit.plugins.registry import Plugin, Registry, signature, summary

__all__ = [
    "BUILT_IN",
    "GROUP",
    "Plugin",
    "Plugins",
    "Registry",
    "load_plugins",
    "shadowed",
    "signature",
    "summary",
]
