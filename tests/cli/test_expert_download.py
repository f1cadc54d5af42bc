"""`show1 models download` of experts, from a server that answers as the Hugging Face Hub does."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest

from tests.experts.tiny_experts import build_wan

REPOSITORY = "somebody/tiny-wan-2.2"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(NamedTuple):
    """A Hub of one repository."""

    address: str
    fetched: list[str]
    """Files that were downloaded, by their paths in the repository."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A Hub that holds a tiny Wan 2.2 with both of its networks, a picture and weights in another format."""
    folder = build_wan(tmp_path / "repository", low_noise_only=True)
    shutil.copytree(folder / "transformer_2", folder / "transformer")
    index = json.loads((folder / "model_index.json").read_text())
    index["transformer"] = index["transformer_2"]
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "assets").mkdir()
    (folder / "assets" / "logo.png").write_bytes(b"picture")
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = unquote(self.path).partition("?")[0]
            if path.startswith(f"/api/models/{REPOSITORY}"):
                files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
                told: object = {"id": REPOSITORY, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
                if "/tree/" in path:
                    told = [
                        {"type": "file", "path": name, "size": file.stat().st_size, "oid": COMMIT}
                        for name, file in files.items()
                    ]
                self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})
                return
            name = path.removeprefix(f"/{REPOSITORY}/resolve/").partition("/")[2]
            if not path.startswith(f"/{REPOSITORY}/resolve/") or not (folder / name).is_file():
                self._send(404, b"", {"X-Error-Code": "EntryNotFound" if REPOSITORY in path else "RepoNotFound"})
                return
            content = (folder / name).read_bytes()
            if self.command == "GET":
                fetched.append(name)
            digest = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT})

        def _send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Hub(f"http://127.0.0.1:{server.server_port}", fetched)
    server.shutdown()
    thread.join()
    server.server_close()


def show1(hub: Hub, cache: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `show1 ...` in a process of its own: the Hub's client reads its settings when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", **environment}
    command = [sys.executable, "-m", "show1", *words]
    return subprocess.run(command, env={**kept, **settings}, capture_output=True, text=True, timeout=120)


def test_only_what_is_needed_is_downloaded_and_then_known_without_a_connection(hub: Hub, tmp_path: Path) -> None:
    made = show1(hub, tmp_path / "cache", "models", "download", REPOSITORY)
    assert made.returncode == 0, made.stderr
    assert f"{REPOSITORY}@{COMMIT}" in made.stdout
    weights = {name for name in hub.fetched if name.endswith((".safetensors", ".bin"))}
    networks = ("text_encoder/model", "transformer_2/diffusion_pytorch_model", "vae/diffusion_pytorch_model")
    assert weights == {f"{name}.safetensors" for name in networks}
    assert not [name for name in hub.fetched if name.startswith(("transformer/", "assets/"))]
    hub.fetched.clear()
    sound = show1(hub, tmp_path / "cache", "models", "verify", REPOSITORY, HF_HUB_OFFLINE="1")
    assert sound.returncode == 0 and "all is well" in sound.stdout, sound.stderr
    assert hub.fetched == []


def test_a_repository_that_is_not_there(hub: Hub, tmp_path: Path) -> None:
    missing = show1(hub, tmp_path / "cache", "models", "download", "somebody/nothing")
    assert missing.returncode != 0 and "the Hub has no repository 'somebody/nothing'" in missing.stderr
