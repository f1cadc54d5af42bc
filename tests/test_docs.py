"""The documentation: it builds as a site, and what is deployed by it can be read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert built.returncode == 0, built.stderr
    reference = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("from_pretrained", "make_request", "pick", "InputError"):
        assert f"{name}</" in reference or f">{name}<" in reference, name


def test_every_page_is_in_the_site() -> None:
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages == set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))


def test_the_files_of_deployments_name_commands_that_exist() -> None:
    yaml = pytest.importorskip("yaml")
    from show1.cli.main import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    words = " ".join(" ".join(service.get("command", [])) for service in compose["services"].values())
    for document in yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text(encoding="utf-8")):
        if document["kind"] == "Deployment":
            (container,) = document["spec"]["template"]["spec"]["containers"]
            words += f" show1 {container['args'][0]}"
    assert set(re.findall(r"show1 (\w+)", words)) == {"serve", "worker"} <= known
