# ruff: noqa: E402 (what may be absent is asked for first)
"""The files of docs/examples/ray, against what reads them."""

import argparse
import os
import shlex
from pathlib import Path

import pytest

pytest.importorskip("ray.serve", reason="needs decodekit-ray[serve]; make test-ray")
yaml = pytest.importorskip("yaml", reason="needs PyYAML; make test-ray")
jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema; make test-ray")

from decodekit_ray.command import RayBatch
from decodekit_ray.serving import app
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema

import decodekit
from decodekit.bundle import EMBEDDED

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples" / "ray"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # Ray's own


def read(name):
    return yaml.safe_load((EXAMPLES / name).read_text())


def test_ray_takes_the_cluster_file():
    config = prepare_config(read("cluster.yaml"))
    validate_config(config)
    assert config["max_workers"] == len(config["provider"]["worker_ips"])
    with pytest.raises(jsonschema.ValidationError):
        validate_config(config | {"max_worker": 7})


def test_the_jobs_entrypoint_is_a_command_that_there_is():
    words = shlex.split(read("job.yaml")["spec"]["entrypoint"])
    assert words[:2] == ["decodekit", "batch"]
    parser = argparse.ArgumentParser(exit_on_error=False)
    RayBatch(decodekit.load_plugins(())).add_arguments(parser)
    args = parser.parse_args(words[2:])
    groups = read("job.yaml")["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert args.ray_actors * args.ray_gpus == sum(group["replicas"] for group in groups)


def test_serve_takes_the_services_config(monkeypatch):
    config = ServeDeploySchema.model_validate(yaml.safe_load(read("service.yaml")["spec"]["serveConfigV2"]))
    (served,) = config.applications
    assert served.import_path == f"{app.__module__}:{app.__name__}"
    monkeypatch.setenv("DECODEKIT_API_KEY", "k" * 32)
    bundles = [one.partition("=")[0] + f"={EMBEDDED / 'tagline'}" for one in served.args["bundles"]]
    assert app({**served.args, "bundles": bundles})


@pytest.mark.parametrize(("name", "kind"), [("job.yaml", "rayjobs"), ("service.yaml", "rayservices")])
def test_kuberay_takes_the_manifests(name, kind):
    folder = os.environ.get("DECODEKIT_KUBERAY_CRDS")
    if folder is None:
        pytest.skip("DECODEKIT_KUBERAY_CRDS names no folder with KubeRay's custom resource definitions")
    definition = yaml.safe_load((Path(folder) / f"ray.io_{kind}.yaml").read_text())
    (version,) = [one for one in definition["spec"]["versions"] if one["name"] == "v1"]
    manifest = read(name)
    assert manifest["kind"] == definition["spec"]["names"]["kind"]
    jsonschema.validate(manifest, closed(version["schema"]["openAPIV3Schema"]))


def closed(schema):
    """The same, which takes no field that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(one) for name, one in schema.items()}
    if found.get("x-kubernetes-int-or-string"):
        found.pop("pattern", None)  # for texts; jsonschema leaves numbers alone, Kubernetes too
    if isinstance(found.get("properties"), dict) and found["properties"] and "type" in found:
        found.setdefault("additionalProperties", False)
    return found
