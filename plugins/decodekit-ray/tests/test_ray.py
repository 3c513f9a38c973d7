"""With Ray itself: a cluster of this machine, two actors."""

import json
import os
import signal

import pytest

ray = pytest.importorskip("ray", reason="needs Ray; make test-ray")

from decodekit_ray.actors import Actors, Engine  # noqa: E402

import decodekit  # noqa: E402
from decodekit import cli  # noqa: E402
from decodekit.commands.batch import begun_with  # noqa: E402
from decodekit.errors import JobError  # noqa: E402
from decodekit.jobs.job import Job, Unseen  # noqa: E402
from decodekit.jobs.sources import open_source  # noqa: E402
from decodekit.plugin_choice import Choice  # noqa: E402

ROWS = 120
NONE = Choice(allowed=frozenset())
COST = {"num_cpus": 1, "num_gpus": 0}
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")  # Ray's own


@pytest.fixture(scope="module")
def engine():
    plugins = decodekit.load_plugins(NONE)
    with decodekit.load("tagline", plugins=plugins) as decoder:
        facts = begun_with(decoder, {})
    defaults = (["temperature=0.9"], {"max_new_tokens": 10}, None)
    return Engine("tagline", {"threads": 1}, NONE, defaults, {"name": "tagline"}, facts)


@pytest.fixture(scope="module")
def actors(engine):
    yield Actors(engine, 1, address="local", count=2, cost=COST, ahead=64)
    ray.shutdown()


@pytest.fixture
def make_job(tmp_path):
    path = tmp_path / "in.jsonl"
    rows = [{"id": f"r{i}", "prompt": f"Give me a tagline for shop {i}."} for i in range(ROWS)]
    rows[7]["top_p"] = 9
    for row in rows[20:36]:
        row["n"], row["max_new_tokens"] = 100, 2  # more at once than an engine lets wait
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(answerer, name):
        source = open_source(str(path), folder=tmp_path)
        return Job(source, tmp_path / name, {}, lambda seed: answerer, seed=1, ahead=128, group=8)

    return make


@pytest.fixture
def alone(engine, make_job, tmp_path):
    """The results of one process."""
    answering = engine.answering(1)
    make_job(answering, "alone.jsonl").run(lambda rows, done: Unseen())
    answering.decoder.close()
    return (tmp_path / "alone.jsonl").read_bytes()


class Killer:
    """Kills an actor once some rows are done."""

    def __init__(self, pid, after):
        self.pid, self.left = pid, after

    def advance(self, record):
        self.left -= 1
        if self.left == 0:
            os.kill(self.pid, signal.SIGKILL)


def test_two_actors_write_what_one_process_writes(actors, make_job, alone, tmp_path):
    summary = make_job(actors, "ray.jsonl").run(lambda rows, done: Unseen())
    assert (tmp_path / "ray.jsonl").read_bytes() == alone
    assert (summary.rows, summary.errors) == (ROWS, {"E_PARAMETER": 1})


def test_an_actor_that_is_killed_costs_nothing_but_time(actors, make_job, alone, tmp_path):
    before = actors.pids[0]
    make_job(actors, "ray.jsonl").run(lambda rows, done: Killer(before, 10))
    assert (tmp_path / "ray.jsonl").read_bytes() == alone
    assert ray.get(actors.workers[0].ready.remote()) != before


def test_another_bundle_on_a_node_is_refused_by_name(actors, engine):
    other = {**engine.facts, "bundle": {"name": "tagline", "sha256": "00"}}
    with pytest.raises(JobError, match='bundle sha256 was "00" and is'):
        Actors(
            Engine(engine.model, engine.load, NONE, engine.defaults, engine.how, other),
            1,
            address="local",
            count=1,
            cost={"num_cpus": 0, "num_gpus": 0},
            ahead=16,
        )


def test_the_command_without_ray_is_the_one_that_was(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DECODEKIT_PLUGINS", "ray")
    (tmp_path / "in.jsonl").write_text('{"prompt": "Give me a tagline for a zoo."}\n')
    words = ["batch", "tagline", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")]
    assert cli.main(words) == 0
    with pytest.raises(SystemExit):
        cli.main(["batch", "--help"])
    assert "--ray ADDRESS" in capsys.readouterr().out
