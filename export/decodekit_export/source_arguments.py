"""The arguments that name a checkpoint, the same for every verb. Imports nothing heavy."""

from __future__ import annotations

import argparse


def add_source(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        name, help="a folder with config.json and safetensors weights, or org/name[@revision] on the hub"
    )
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit on the hub (default main)")
    parser.add_argument("--offline", action="store_true", help="take from the hub's cache, fetch nothing")
