"""The files for clusters in docs/clusters: their fields exist, and what they say of this package is true."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from evaluation.config.run_config import RayConfig

CLUSTERS = Path(__file__).parents[2] / "docs" / "clusters"

# Field names from ray-project/kuberay, ray-operator/apis/ray/v1/rayjob_types.go and raycluster_types.go.
GROUP = {
    "rayStartParams": {"type": "object", "additionalProperties": {"type": "string"}},
    "template": {"type": "object"},
}
RAY_JOB = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["entrypoint", "rayClusterSpec"],
            "properties": {
                "entrypoint": {"type": "string"},
                "runtimeEnvYAML": {"type": "string"},
                "shutdownAfterJobFinishes": {"type": "boolean"},
                "ttlSecondsAfterFinished": {"type": "integer", "minimum": 0},
                "backoffLimit": {"type": "integer"},
                "activeDeadlineSeconds": {"type": "integer", "minimum": 1},
                "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
                "rayClusterSpec": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["headGroupSpec"],
                    "properties": {
                        "rayVersion": {"type": "string"},
                        "enableInTreeAutoscaling": {"type": "boolean"},
                        "headGroupSpec": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["rayStartParams", "template"],
                            "properties": {"serviceType": {"type": "string"}, **GROUP},
                        },
                        "workerGroupSpecs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
                                "properties": {
                                    "groupName": {"type": "string"},
                                    "replicas": {"type": "integer"},
                                    "minReplicas": {"type": "integer"},
                                    "maxReplicas": {"type": "integer"},
                                    "numOfHosts": {"type": "integer"},
                                    **GROUP,
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


@pytest.fixture
def ray_job() -> Any:
    return yaml.safe_load((CLUSTERS / "kuberay.yaml").read_text(encoding="utf-8"))


def test_ray_job_has_the_fields_of_its_kind(ray_job: Any) -> None:
    jsonschema.validate(ray_job, RAY_JOB)
    ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["minReplica"] = 8
    with pytest.raises(jsonschema.ValidationError, match="minReplica"):
        jsonschema.validate(ray_job, RAY_JOB)


def test_its_pods_are_pods_of_kubernetes(ray_job: Any) -> None:
    cluster = ray_job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **group["template"]}
        kubernetes_validate.validate(pod, "1.30", strict=True)
        mounted = {mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
    pod["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, "1.30", strict=True)


def test_version_of_ray_is_the_one_that_is_tested(ray_job: Any) -> None:
    constraints = (CLUSTERS.parents[1] / "constraints.txt").read_text(encoding="utf-8")
    pinned = re.search(r"^ray==(.*)$", constraints, re.MULTILINE)
    assert pinned is not None
    assert ray_job["spec"]["rayClusterSpec"]["rayVersion"] == pinned.group(1)


@pytest.mark.parametrize("name", ["slurm.sh", "slurm-array.sh"])
def test_slurm_script_is_a_script(name: str) -> None:
    subprocess.run(["bash", "-n", str(CLUSTERS / name)], check=True)


def test_array_script_runs_its_part_and_passes_signals_on(tmp_path: Path) -> None:
    """Runs the script with a stand-in for run-benchmark that notes its arguments and how it ends."""
    stand_in = tmp_path / "run-benchmark"
    stand_in.write_text(
        "#!/bin/bash\ntrap 'echo stopped >> said; exit 130' TERM\n"
        'echo "$@" offline=$HF_HUB_OFFLINE > said\nfor n in {1..100}; do sleep 0.1; done\n',
        encoding="utf-8",
    )
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = subprocess.Popen(["bash", CLUSTERS / "slurm-array.sh", "suite.yaml"], cwd=tmp_path, env=environment)
    said = tmp_path / "said"
    deadline = time.monotonic() + 30
    while not said.exists() or not said.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    script.terminate()
    assert script.wait(20) == 130
    assert said.read_text(encoding="utf-8").splitlines() == ["suite.yaml --part auto offline=1", "stopped"]


def test_options_that_the_files_name_exist() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in CLUSTERS.iterdir())
    assert "ray: {address: auto}" in text
    assert "address" in RayConfig.model_fields
