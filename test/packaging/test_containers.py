"""Containers and workflows are run by others; here they are held to what they name."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker/Dockerfile"
DISTRIBUTIONS = ["humble", "jazzy", "kilted", "lyrical", "rolling"]
SCRIPTS = [
    *sorted((ROOT / "docker").glob("*.sh")),
    *sorted((ROOT / ".devcontainer").glob("*.sh")),
    ROOT / ".ci/run",
    ROOT / "resource/preflight.sh",
]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def read_instructions():
    """Instructions of the Dockerfile with their arguments, continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def arguments_of(instruction):
    return [arguments for name, arguments in read_instructions() if name == instruction]


def check_syntax(script):
    return subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)


def test_every_distribution_is_built_and_tested():
    job = WORKFLOW["jobs"]["ros"]
    assert job["strategy"]["matrix"]["distro"] == DISTRIBUTIONS
    assert job["container"]["image"] == "ros:${{ matrix.distro }}-ros-base"
    commands = "\n".join(step.get("run", "") for step in job["steps"])
    for part in ("rosdep install", "--system-site-packages", "-m colcon build", "-m colcon test ", "test-result"):
        assert part in commands


def test_a_plain_machine_runs_what_every_change_must_pass():
    job = WORKFLOW["jobs"]["plain"]
    assert job["container"]["image"].startswith("ubuntu:")
    assert ".ci/run" in [step.get("run") for step in job["steps"]]


def test_images_are_built_of_what_the_dockerfile_offers():
    matrix = WORKFLOW["jobs"]["images"]["strategy"]["matrix"]
    assert matrix == {"distro": ["humble", "jazzy"], "kind": ["cpu", "cuda"]}
    stages = {stage.partition(" AS ")[2] for stage in arguments_of("FROM")}
    assert {f"venv-{kind}" for kind in matrix["kind"]} <= stages


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_executable_bash(path):
    assert path.read_text().startswith(("#!/usr/bin/env bash\n", "#!/bin/sh\n"))
    assert path.stat().st_mode & 0o111
    done = check_syntax(path.read_text())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("step", [step for step in STEPS if "run" in step], ids=lambda step: step["run"][:30])
def test_steps_of_the_workflow_are_bash(step):
    done = check_syntax(re.sub(r"\$\{\{.*?\}\}", "value", step["run"]))
    assert (done.returncode, done.stderr) == (0, "")


def test_files_that_steps_name_exist():
    text = "\n".join(str(step.get("run", step.get("with", ""))) for step in STEPS)
    named = set(re.findall(r"(?<![\w./-])(?:docker|resource|config|\.ci)/[\w./]+", text))
    named |= set(re.findall(r"src/objloc_ros/([\w./-]+\w)", text))
    assert {"docker/Dockerfile", "requirements.txt"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_dockerfile_copies_what_exists():
    copies = [words.split() for words in arguments_of("COPY")]
    sources = [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]
    assert "package.xml" in sources
    for source in sources:
        assert source in (".", "constraints*.txt") or list(ROOT.glob(source)), source
    stages = {stage.partition(" AS ")[2] for stage in arguments_of("FROM")}
    assert {words[0].partition("=")[2] for words in copies if words[0].startswith("--from")} <= stages


def test_what_setup_py_installs_is_not_ignored():
    ignored = (ROOT / "docker/Dockerfile.dockerignore").read_text().split("\n")
    assert not {"config", "launch", "objloc_ros", "resource", "package.xml", "requirements.txt"} & set(ignored)
    assert {".venv", ".git", "build", "install", "log"} <= set(ignored)


@pytest.mark.parametrize("stage", ["dev", "runtime"])
def test_images_are_used_by_a_user_without_rights(stage):
    instructions = read_instructions()
    begin = next(i for i, (name, text) in enumerate(instructions) if name == "FROM" and text.endswith(f" AS {stage}"))
    body = []
    for name, text in instructions[begin + 1 :]:
        if name == "FROM":
            break
        body.append((name, text))
    assert [text for name, text in body if name == "USER"] == ["objloc"]
    (entrypoint,) = [json.loads(text) for name, text in body if name == "ENTRYPOINT"]
    assert (ROOT / "docker" / Path(entrypoint[0]).name).is_file()
    assert any(name == "ENV" and text == "OBJLOC_CACHE=/weights" for name, text in body)


def test_the_entrypoint_runs_its_command_under_ros(tmp_path):
    """With a ROS of one line, and this package's part left out, as it is before it has been built."""
    (tmp_path / "setup.bash").write_text("export SOURCED=yes\n")
    script = (ROOT / "docker/entrypoint.sh").read_text().replace("/opt/ros/$ROS_DISTRO", str(tmp_path))
    command = ["bash", "-c", script, "entrypoint.sh", "bash", "-c", 'echo "$SOURCED $*"', "arguments", "of", "it"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "yes of it\n"


def test_the_development_container_is_a_stage_of_the_dockerfile():
    folder = ROOT / ".devcontainer"
    document = json.loads((folder / "devcontainer.json").read_text())
    assert (folder / document["build"]["dockerfile"]).resolve() == DOCKERFILE
    assert f"venv-${{KIND}} AS {document['build']['target']}" in arguments_of("FROM")
    assert set(document["build"]["args"]) <= {text.partition("=")[0] for text in arguments_of("ARG")}
    assert (ROOT / document["postCreateCommand"]).is_file()
    assert document["remoteUser"] == "objloc"
