"""The built-in strategies. Each file has the exact shape of a plugin module."""
