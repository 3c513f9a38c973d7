"""Every field and every error, as recorded: what a client is told does not change unnoticed."""

import importlib.util
import json
from pathlib import Path

import pytest

import decodekit
from decodekit.plugins import load_plugins

spec = importlib.util.spec_from_file_location("contract", Path(__file__).with_name("contract.py"))
contract = importlib.util.module_from_spec(spec)
spec.loader.exec_module(contract)
RECORDED = json.loads(contract.FILE.read_text())


@pytest.fixture(scope="module")
def http(serve):
    with (
        decodekit.load("tagline", device="cpu", plugins=load_plugins(only=())) as decoder,
        serve({"tagline": decoder}) as running,
        running.client() as http,
    ):
        yield http


def test_the_record_is_of_these_requests():
    assert RECORDED.keys() == contract.REQUESTS.keys()


@pytest.mark.parametrize("name", contract.REQUESTS)
def test_the_contract_holds(http, name):
    found = contract.ask(http, name)
    assert contract.same(found, RECORDED[name]), found
