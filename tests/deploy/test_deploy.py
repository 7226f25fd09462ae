"""What is in deploy/ holds together: schemas, options, versions; the Slurm script runs with stand-ins for its tools."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from talkset.cli import app, main

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
SLURM = DEPLOY / "slurm.sh"
RAY_VERSION = re.search(r"^ARG RAY=(\S+)$", (DEPLOY / "Dockerfile").read_text(), re.M)


def document(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / name).read_text()))


def ray_start_options() -> set[str]:
    from ray.scripts.scripts import start

    return {option for parameter in start.params for option in parameter.opts}


def assert_known_options(command: str, known: set[str]) -> None:
    options = {part.partition("=")[0] for part in shlex.split(command) if part.startswith("--")}
    assert options
    assert options <= known


def assert_is_a_run(words: list[str]) -> None:
    """The arguments of `talkset run` are taken by it."""
    group: Any = typer.main.get_command(app)
    given = group.commands["run"].make_context("run", words).params
    assert given["manifest"] is not None
    assert given["out"] is not None


def test_an_address_chooses_ray(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--show-config", "--engine", "ray", "--address", "10.0.0.7:24711"]) == 0
    shown = yaml.safe_load(capfd.readouterr().out)["run"]
    assert (shown["engine"], shown["address"]) == ("ray", "10.0.0.7:24711")


# The cluster launcher


def test_the_cluster_file_is_what_ray_reads() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    found = prepare_config(document("ray-cluster.yaml"))
    validate_config(found)
    wrong = prepare_config(document("ray-cluster.yaml"))
    wrong["available_node_types"]["cpu"]["instance"] = "c7i"
    with pytest.raises(Exception, match="Additional properties"):
        validate_config(wrong)
    assert found["setup_commands"] == found["head_setup_commands"] == found["worker_setup_commands"] == []


def test_the_cluster_grows_and_the_head_only_drives() -> None:
    cluster = document("ray-cluster.yaml")
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"]["CPU"] == 0
    assert types["cpu"]["min_workers"] == 0 < types["cpu"]["max_workers"] <= cluster["max_workers"]
    assert "--entrypoint=" in cluster["docker"]["run_options"]  # the image's own is `talkset`
    assert any(option.endswith(":/cache") for option in cluster["docker"]["run_options"])  # TALKSET_CACHE of the image
    starts = [cluster["head_start_ray_commands"][-1], cluster["worker_start_ray_commands"][-1]]
    for command in starts:
        assert_known_options(command, ray_start_options())
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in starts[0]
    assert "$RAY_HEAD_IP:6379" in starts[1]


# KubeRay

FIELDS: dict[str, set[str]] = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {
        *("entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"),
        *("activeDeadlineSeconds", "submissionMode", "runtimeEnvYAML", "jobId", "suspend", "metadata"),
    },
    "spec.rayClusterSpec": {
        *("rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"),
    },
    "spec.rayClusterSpec.autoscalerOptions": {"idleTimeoutSeconds", "upscalingMode", "resources", "image", "env"},
    "spec.rayClusterSpec.headGroupSpec": {"rayStartParams", "template", "serviceType", "enableIngress"},
    "spec.rayClusterSpec.workerGroupSpecs[]": {
        *("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template", "numOfHosts"),
    },
}
"""Of ray.io/v1 (KubeRay 1.4), as far as the file may need them; the whole file was checked against the whole schema."""


def unknown_fields(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from unknown_fields(item, f"{path}[]")
    elif isinstance(value, dict) and path in FIELDS:
        for name, item in value.items():
            place = f"{path}.{name}".lstrip(".")
            if name not in FIELDS[path]:
                yield place
            yield from unknown_fields(item, place)


def groups(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_the_rayjob_has_known_and_needed_fields() -> None:
    job = document("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert list(unknown_fields(job)) == []
    wrong = copy.deepcopy(job)
    wrong["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    assert list(unknown_fields(wrong)) == ["spec.rayClusterSpec.workerGroupSpecs[].maxReplica"]
    assert job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is True
    assert RAY_VERSION is not None
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == RAY_VERSION[1]
    worker = groups(job)[1]
    assert worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]
    known = {option.removeprefix("--") for option in ray_start_options()}
    for group in groups(job):
        assert group["rayStartParams"].keys() <= known
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        [container] = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert container["resources"]["limits"]["memory"]
        assert pod["securityContext"]["runAsUser"] == 1000  # the user of the image
    assert groups(job)[0]["rayStartParams"]["num-cpus"] == "0"


def test_the_rayjob_starts_a_run_that_can_follow_a_lost_one() -> None:
    words = shlex.split(document("rayjob.yaml")["spec"]["entrypoint"])
    assert words[:2] == ["bash", "-c"]
    [clear, start] = [shlex.split(part) for part in words[2].split(";")]
    assert start[:3] == ["exec", "talkset", "run"]
    assert_is_a_run(start[3:])
    out = start[start.index("--out") + 1]
    assert clear == ["rm", "-f", f"{out}/.talkset/owner.json"]
    mounts = {m["mountPath"] for g in groups(document("rayjob.yaml")) for m in mounts_of(g)}
    assert any(out.startswith(f"{mount}/") for mount in mounts)


def mounts_of(group: Mapping[str, Any]) -> list[dict[str, str]]:
    return list(group["template"]["spec"]["containers"][0]["volumeMounts"])


# The image


def test_the_image_is_built_from_what_the_wheel_holds() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    text = (DEPLOY / "Dockerfile").read_text()
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    [packages] = re.findall(r"^packages = (\[.+\])$", project, re.M)
    assert kept >= {*json.loads(packages), "pyproject.toml"}
    [torch] = re.findall(r'^  "(torch>.+?)",', project, re.M)
    assert text.count(f'"{torch}"') == 2  # CPU and CUDA
    assert RAY_VERSION is not None
    from packaging.requirements import Requirement

    [ray] = re.findall(r'^  "(ray\[.+?)",', project, re.M)
    assert RAY_VERSION[1] in Requirement(ray).specifier


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("pytorch3d", ["no", "yes"])
def test_every_stage_of_the_image_stands_on_one_before(device: str, pytorch3d: str) -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    given = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.M)) | {"DEVICE": device, "PYTORCH3D": pytorch3d}
    stages: set[str] = set()
    for instruction, rest in re.findall(r"^(FROM|COPY --from=)(.+)$", text, re.M):
        rest = re.sub(r"\$\{(\w+)\}", lambda match: given[match[1]], rest)
        base, _, name = rest.strip().partition(" AS ")
        base = base.split()[0]
        assert base in stages or (instruction == "FROM" and ":" in base)
        stages.add(name)
    assert {"base", "talkset", f"torch-{device}", f"pytorch3d-{pytorch3d}"} <= stages


# Slurm


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A folder with stand-ins that write down how they were called; `ray start` stays until it is ended."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    scripts = {
        "srun": "while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && node=${1#*=}; shift; done\n"
        '[ "$1" = hostname ] && { echo "fe80::1 10.0.0.7 10.0.0.8"; exit; }\nNODE=$node exec "$@"',
        "scontrol": 'echo "scontrol $*" >>"$CALLS"\n[ "$1" = show ] && printf "n1\\nn2\\nn3\\n" || true',
        "ray": '[ "$1" = health-check ] && { [ -e "$FOLDER/up" ]; exit; }\n'
        'echo "ray $* on $NODE $(wc -c <"$RAY_AUTH_TOKEN_PATH") $(stat -c %a "$RAY_AUTH_TOKEN_PATH")" >>"$CALLS"\n'
        '[ -e "$FOLDER/broken" ] && exit 1\n[[ $* == *--head* ]] && touch "$FOLDER/up"\nexec sleep 60',
        "talkset": 'until [ "$(grep -c "^ray start" "$CALLS")" -ge 3 ]; do sleep 0.05; done\n'
        'echo "talkset $*" >>"$CALLS"\n[ -e "$FOLDER/long" ] || exit "${STATUS:-0}"\n'
        'trap "kill \\$!; exit 130" TERM\ntouch "$FOLDER/begun"\nsleep 60 & wait $!',
    }
    for name, text in scripts.items():
        (bin_ / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (bin_ / name).chmod(0o755)
    return tmp_path


def started(job: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    slurm = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_CPUS_PER_TASK": "8"}
    here = {"HOME": str(job), "FOLDER": str(job), "CALLS": str(job / "calls")}
    environment = {"PATH": f"{job / 'bin'}:{os.environ['PATH']}", **slurm, **here, **more}
    command, to = ["bash", str(SLURM), *arguments], subprocess.PIPE
    return subprocess.Popen(command, cwd=job, env=environment, stdout=to, stderr=subprocess.STDOUT, text=True)


def calls(job: Path) -> list[str]:
    return (job / "calls").read_text().splitlines()


def test_the_slurm_script_is_sound() -> None:
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    assert os.access(SLURM, os.X_OK)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    found = subprocess.run(["shellcheck", str(SLURM)], capture_output=True, text=True, check=False)
    assert found.stdout == ""


@pytest.mark.parametrize("status", [0, 1])
def test_a_slurm_job_starts_ray_on_all_nodes_and_the_run_on_one(job: Path, status: int) -> None:
    process = started(job, "m.csv", "out", "--set", "fit.iterations=3", STATUS=str(status))
    output = process.communicate(timeout=30)[0]
    assert process.returncode == status, output
    told = calls(job)
    starts = sorted(call for call in told if call.startswith("ray start"))
    assert [start.partition(" on ")[2] for start in starts] == ["n2 64 600", "n3 64 600", "n1 64 600"]
    assert "--head --block --node-ip-address=10.0.0.7 --port=24711 --num-cpus=8" in starts[2]
    for start in starts:
        assert_known_options(start.partition(" on ")[0], ray_start_options())
    [run] = [shlex.split(call)[1:] for call in told if call.startswith("talkset")]
    assert run[:4] == ["run", "m.csv", "--out", "out"]
    assert run[4:] == ["--address", "10.0.0.7:24711", "--workers", "24", "--set", "fit.iterations=3"]
    assert_is_a_run(run[1:])
    assert not any("requeue" in call for call in told)
    assert not list(job.glob(".talkset-ray-token-*"))


def test_before_its_time_is_up_the_job_stops_the_run_and_asks_for_more(job: Path) -> None:
    (job / "long").touch()
    process = started(job, "m.csv", "out")
    for _ in range(200):
        if (job / "begun").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 130, output
    assert calls(job)[-1] == "scontrol requeue 4711"
    assert "goes on when it is started again" in output


def test_a_job_started_again_removes_the_note_of_the_one_that_was_lost(job: Path) -> None:
    note = job / "out" / ".talkset" / "owner.json"
    note.parent.mkdir(parents=True)
    for count, kept in (("0", True), ("1", False)):
        note.touch()
        (job / "up").unlink(missing_ok=True)
        started(job, "m.csv", "out", SLURM_RESTART_COUNT=count).communicate(timeout=30)
        assert note.exists() is kept


def test_a_head_that_does_not_start_ends_the_job(job: Path) -> None:
    (job / "broken").touch()
    process = started(job, "m.csv", "out")
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 1
    assert "Ray did not start on n1" in output
    assert not any(call.startswith("talkset") for call in calls(job))
    assert started(job, "m.csv").wait(10) == 2


# What the pages tell to type


@pytest.mark.parametrize("page", ["docs/cluster.md", "docs/runs.md", "deploy/README.md"])
def test_the_commands_of_the_pages_exist(page: str) -> None:
    group: Any = typer.main.get_command(app)
    blocks = re.findall(r"```sh\n(.*?)```", (REPOSITORY / page).read_text(), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = 0
    for line in lines:
        words = [] if line.startswith("pip ") else shlex.split(line, comments=True)
        for place, word in enumerate(words):
            if word != "talkset" or place + 1 == len(words) or words[place - 1 : place] in (["-t"], ["--name"]):
                continue
            command, rest = group, words[place + 1 :]
            while hasattr(command, "commands") and rest and rest[0] in command.commands:
                command, rest = command.commands[rest[0]], rest[1:]
            assert command is not group, line
            options = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
            assert {part.partition("=")[0] for part in rest if part.startswith("--")} <= options, line
            found += 1
    assert found > 2
