"""The files in deploy/ and the Dockerfile: they fit their schemas, and what they start is a command of show1."""

import json
import re
import shlex
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import typer

from show1.cli.main import app

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"


def parsed(words: list[str]) -> dict[str, Any]:
    """What a command line would set; the command itself is not run."""
    commands: Any = typer.main.get_command(app)
    with commands.make_context("show1", list(words), resilient_parsing=False) as context:
        name, command, rest = commands.resolve_command(context, words)
        values = command.make_context(name, rest, parent=context).params
    return {"command": name, **values}


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))


def pods() -> list[dict[str, Any]]:
    return [each["spec"]["template"]["spec"] for each in manifests() if each["kind"] == "Deployment"]


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return found


def test_compose_fits_its_schema_and_starts_show1() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schemas = resources.files(pytest.importorskip("check_jsonschema")) / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.validate(yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8")), schema)
    ours = {name: service for name, service in services().items() if service["image"] == "show1"}
    assert [parsed(service["command"])["command"] for service in ours.values()] == ["serve", "worker"]
    assert not any("entrypoint" in service for service in ours.values()), "`compose run server keys add` needs show1's"


def test_kubernetes_fits_its_schema_and_starts_show1() -> None:
    validator = pytest.importorskip("kubernetes_validate")
    for document in manifests():
        validator.validate(document, "1.33", strict=True)
    started = [parsed(pod["containers"][0]["args"])["command"] for pod in pods()]
    assert started == ["serve", "worker"]
    for pod in pods():
        assert pod["securityContext"]["fsGroup"] == 1000, "the image's user must be able to write the volume"


def test_the_image_and_the_unit_start_show1() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    command = re.search(r"^CMD (.+)$", dockerfile, re.MULTILINE)
    unit = re.search(r"^ExecStart=\S+/show1 (.+)$", (DEPLOY / "show1-worker@.service").read_text(), re.MULTILINE)
    assert command is not None and unit is not None
    assert parsed(json.loads(command[1]))["command"] == "serve"
    assert parsed(shlex.split(unit[1].replace("%i", "0")))["device"] == "cuda:0"


def test_no_password_is_in_a_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ps` shows command lines to everybody; the environment of a process only to its owner."""
    variables = [set(service["environment"]) for service in services().values() if service["image"] == "show1"]
    variables += [{variable["name"] for variable in pod["containers"][0]["env"]} for pod in pods()]
    assert variables == [{"SHOW1_DATABASE"}] * 4
    monkeypatch.setenv("SHOW1_DATABASE", "postgresql://show1:secret@db/show1")
    monkeypatch.setenv("SHOW1_DATA", "/data")
    for words in (["serve"], ["worker"]):
        values = parsed(words)
        assert (values["database"], values["data"]) == ("postgresql://show1:secret@db/show1", "/data")


def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    try:
        unit = tmp_path / "show1-worker@0.service"
        text = (DEPLOY / "show1-worker@.service").read_text(encoding="utf-8")
        unit.write_text(text.replace("/opt/show1/bin/show1", "/bin/true"))
        said = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no systemd is installed")
    assert [line for line in said.stderr.splitlines() if unit.name in line] == []
