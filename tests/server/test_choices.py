"""Experts and adapters that clients choose, and adapters that they upload."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from show1 import Run, Show1Pipeline, Video
from tests.experts.tiny_experts import build_wan
from tests.mutations import mutated, places
from tests.server.processes import serve, wait_for
from tests.tiny_adapters import random_adapter

httpx2 = pytest.importorskip("httpx2")
testclient = pytest.importorskip("starlette.testclient")
pytestmark = pytest.mark.filterwarnings("ignore::starlette.exceptions.StarletteDeprecationWarning")

from show1.cli.serving import parse_experts  # noqa: E402
from show1.cli.settings import with_expert  # noqa: E402
from show1.errors import InputError  # noqa: E402
from show1.server.access import Access  # noqa: E402
from show1.server.app import make_app  # noqa: E402
from show1.server.jobs import DataFolder  # noqa: E402
from show1.server.keys import KeyFile  # noqa: E402
from show1.server.limits import ServerLimits  # noqa: E402
from show1.server.queue import JobQueue  # noqa: E402
from show1.server.service import Service  # noqa: E402

SMALL = {"translation": {"height": 18, "width": 26, "num_inference_steps": 2}}
QUICK = {"prompt": "a cat", "seed": 1, "num_frames": 5, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wan(tmp_path_factory.mktemp("wan") / "tiny-wan")


class Site:
    """A server without a worker, and what its clients send."""

    def __init__(self, data: Path, pipe: Show1Pipeline, experts: dict[str, Show1Pipeline], *, takes: bool) -> None:
        self.data, self.keys = DataFolder(data), KeyFile(data / "keys.json")
        self.queue = JobQueue(self.data.database, model="mini")
        limits = ServerLimits(max_adapters_per_key=3, max_upload_mb=2)
        service = Service(
            pipe, self.data, self.queue, model="mini", limits=limits, experts=experts, takes_adapters=takes
        )
        app = make_app(service, Access(self.keys, host="127.0.0.1"))
        self.client = testclient.TestClient(app, base_url="http://127.0.0.1")

    def upload(self, content: bytes, name: str = "walk", key: str = "", **fields: str) -> Any:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        files = {"file": ("x.safetensors", content)}
        return self.client.post("/v1/adapters", data={"name": name, **fields}, files=files, headers=headers)

    def names(self, key: str = "") -> list[str]:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return [each["name"] for each in self.client.get("/v1/adapters", headers=headers).json()["data"]]

    def refused(self, answer: Any, status: int, says: str, param: str | None = None) -> None:
        error = answer.json()["error"]
        assert answer.status_code == status and says in error["message"], answer.text
        assert param in (None, error["param"])
        assert str(self.data.path.parent) not in answer.text, "paths of the server are nobody's business"


@pytest.fixture
def site(data: Path, pipe: Show1Pipeline, wan: Path) -> Iterator[Site]:
    expert = Show1Pipeline.from_pretrained(with_expert("mini", str(wan)))
    site = Site(data, pipe, {"wan": expert}, takes=True)
    yield site
    site.queue.close()


def adapter_bytes(pipe: Show1Pipeline, tmp_path: Path, **values: Any) -> bytes:
    return random_adapter(pipe, **values).save(tmp_path / "made.safetensors", overwrite=True).read_bytes()


def foreign_bytes(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> bytes:
    save_file(tensors, tmp_path / "foreign.safetensors")
    return (tmp_path / "foreign.safetensors").read_bytes()


def test_an_upload_is_listed_used_and_removed(site: Site, pipe: Show1Pipeline, tmp_path: Path) -> None:
    content = adapter_bytes(pipe, tmp_path)
    added = site.upload(content)
    assert added.status_code == 200, added.text
    expected = {"object": "adapter", "name": "walk", "stage": "keyframes", "expert": None, "uploaded": True}
    assert added.json() == {**expected, "prompt": "a cat walks"}
    assert site.upload(content).status_code == 200, "the same again is no conflict"
    assert site.client.get("/v1/adapters").json()["data"] == [added.json()]
    made = site.client.post("/v1/videos", json={"prompt": "a cat", "adapters": {"walk": 0.5}})
    assert made.json()["adapters"] == {"walk": 0.5}
    other = adapter_bytes(pipe, tmp_path, seed=1)
    site.refused(site.upload(other), 400, "you have another adapter called walk", "name")
    (site.data.path / "adapters").mkdir()
    (site.data.path / "adapters" / "run.safetensors").write_bytes(other)
    site.refused(site.upload(content, "run"), 400, "there is an adapter called run already", "name")
    assert site.names() == ["run", "walk"]
    assert site.client.delete("/v1/adapters/walk").json()["deleted"]
    assert site.names() == ["run"]
    for name in ("walk", "run", "..", "%2e%2e%2fkeys"):
        assert site.client.delete(f"/v1/adapters/{name}").status_code in (404, 405), name
    site.refused(
        site.client.post("/v1/videos", json={"prompt": "a cat", "adapters": {"walk": 1}}), 400, "there are run"
    )


def test_what_is_no_adapter_is_refused(site: Site, pipe: Show1Pipeline, tmp_path: Path) -> None:
    content = adapter_bytes(pipe, tmp_path)
    site.refused(site.upload(content, "../x"), 400, "up to 64 letters", "name")
    site.refused(site.upload(b"\x80\x04pickle" * 100), 400, "no safetensors file", "file")
    site.refused(site.upload(content[:-50]), 400, "the file is damaged", "file")
    site.refused(site.upload(content, stage="translation"), 400, "is an adapter of the stage 'keyframes'", "file")
    site.refused(site.upload(content, expert="wan"), 400, "leave the expert out", "expert")
    site.refused(site.upload(content, expert="ltx"), 400, "there is no expert 'ltx'; there are wan", "expert")
    site.refused(site.upload(content, stage="keyframes", expert="wan"), 400, "not both", "expert")
    site.refused(site.upload(content, colour="red"), 400, "unknown parameter 'colour'")
    site.refused(site.client.post("/v1/adapters", data={"name": "x"}), 400, "'file' is missing", "file")
    other = random_adapter(pipe, base_name="other", base_sha256="0" * 64).save(tmp_path / "other.safetensors")
    site.refused(site.upload(other.read_bytes()), 400, "was made for the keyframes network of 'other'", "file")
    lora = {"mid.to_q.lora_A.weight": torch.ones(2, 8), "mid.to_q.lora_B.weight": torch.ones(8, 2)}
    site.refused(site.upload(foreign_bytes(tmp_path, lora)), 400, "give the stage", "stage")
    site.refused(site.upload(foreign_bytes(tmp_path, lora), stage="keyframes"), 400, "does not have", "file")
    site.refused(site.upload(bytes(3_000_000)), 413, "larger than 2 MB")
    assert site.names() == [] and not list(site.data.path.glob("uploads/**/*.safetensors"))


def test_damaged_adapters_are_refused_whatever_is_wrong(site: Site, pipe: Show1Pipeline, tmp_path: Path) -> None:
    """The header and bytes of an adapter are changed at random: it is taken or refused, and never an error."""
    chance = random.Random(0)
    content = adapter_bytes(pipe, tmp_path)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    notes = json.loads(header["__metadata__"]["show1"])
    whole = {**header, "__metadata__": {**header["__metadata__"], "show1": notes}}
    values: list[Any] = [None, -1, 2**70, "x", [], {}, [[[]]], "\ud800", ..., 1e308, True]
    statuses = []
    for number in range(150):
        changed = mutated(whole, chance.choice([*places(whole)]), chance.choice(values))
        meta = changed.get("__metadata__")
        if isinstance(meta, dict) and "show1" in meta:
            changed["__metadata__"] = {**meta, "show1": json.dumps(meta["show1"])}
        text = json.dumps(changed).encode()
        made = bytearray(len(text).to_bytes(8, "little") + text + content[8 + length :])
        if number % 3 == 0:
            for _ in range(20):
                made[chance.randrange(len(made))] = chance.randrange(256)
        answer = site.upload(bytes(made), f"a{number}")
        statuses.append(answer.status_code)
        assert answer.status_code in (200, 400), answer.text
        site.client.delete(f"/v1/adapters/a{number}")
    assert statuses.count(400) > 50, statuses
    assert site.names() == []


def test_foreign_files_say_by_their_place_what_they_are_for(site: Site, pipe: Show1Pipeline, tmp_path: Path) -> None:
    tensors = {f"unet.{name}": tensor for name, tensor in random_adapter(pipe).tensors.items()}
    assert site.upload(foreign_bytes(tmp_path, tensors), "style", stage="keyframes").json()["stage"] == "keyframes"
    weight = {f"transformer.blocks.0.attn1.to_q.lora_{side}.weight" for side in "AB"}
    expert = foreign_bytes(tmp_path, {name: torch.ones(24, 24) for name in weight})
    added = site.upload(expert, "look", expert="wan").json()
    assert (added["expert"], added["stage"]) == ("wan", "translation")
    own = adapter_bytes(pipe, tmp_path, stage="translation") if "translation" in pipe.stages else b""
    assert site.names() == ["style", "look"]

    def asks(**how: Any) -> Any:
        return site.client.post("/v1/videos", json={"prompt": "a cat", **how})

    site.refused(asks(adapters={"look": 1}), 400, "there is no adapter 'look'; there are style", "adapters")
    made = asks(adapters={"look": 1, "style": 0.5}, expert="wan")
    assert made.status_code == 200 and made.json()["expert"] == "wan", made.text
    assert made.json()["size"] == site.client.get("/v1/models").json()["data"][0]["experts"][0]["size"]
    site.refused(asks(expert="ltx"), 400, "there is no expert 'ltx'", "expert")
    assert asks(expert="none").json()["expert"] is None
    if own and site.upload(own, "paint").status_code == 200:
        site.refused(asks(adapters={"paint": 1}, expert="wan"), 400, "wan is in its place", "adapters")


def test_uploads_belong_to_their_key_and_are_limited(site: Site, pipe: Show1Pipeline, tmp_path: Path) -> None:
    ann, bob = site.keys.add("ann"), site.keys.add("bob")
    contents = [adapter_bytes(pipe, tmp_path, seed=seed) for seed in range(4)]
    for number, content in enumerate(contents[:3]):
        assert site.upload(content, f"a{number}", ann).status_code == 200
    site.refused(site.upload(contents[3], "a3", ann), 400, "3 are the most", "file")
    assert site.upload(contents[3], "a0", bob).status_code == 200, "names of others do not matter"
    assert (site.names(ann), site.names(bob)) == (["a0", "a1", "a2"], ["a0"])
    asked = {"prompt": "a cat", "adapters": {"a1": 1}}
    site.refused(
        site.client.post("/v1/videos", json=asked, headers={"Authorization": f"Bearer {bob}"}), 400, "there are a0"
    )
    assert site.client.delete("/v1/adapters/a1", headers={"Authorization": f"Bearer {bob}"}).status_code == 404
    assert site.upload(contents[0], "x").status_code == 401


def test_a_server_takes_no_uploads_unless_it_is_told_to(data: Path, pipe: Show1Pipeline, tmp_path: Path) -> None:
    site = Site(data, pipe, {}, takes=False)
    site.refused(site.upload(adapter_bytes(pipe, tmp_path)), 403, "takes no adapters")
    assert not site.client.get("/v1/models").json()["data"][0]["takes_adapters"]
    site.queue.close()


def test_names_of_experts() -> None:
    assert parse_experts(["wan=Wan-AI/Wan2.1", "b=/x=y/"]) == {"wan": "Wan-AI/Wan2.1", "b": "/x=y/"}
    for pairs in (["Wan-AI/Wan2.1"], ["a="], ["=x"], ["a/b=x"], ["a=x", "a=y"], ["none=x"], ["keyframes=x"]):
        with pytest.raises(InputError, match=r"expected NAME=MODEL|is taken"):
            parse_experts(pairs)


@pytest.mark.slow
def test_drafts_are_finished_by_the_expert_that_is_chosen(
    data: Path, pipe: Show1Pipeline, wan: Path, tmp_path: Path
) -> None:
    """With a real worker: an expert in a new video, in that of a draft, and again for a finished video."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    random_adapter(pipe).save(shelf / "walk.safetensors")
    server, address = serve(data, "--expert", f"wan={wan}", "--adapters", str(shelf))
    with server, httpx2.Client(base_url=address, timeout=60) as http:

        def ended(made: Any) -> dict[str, Any]:
            assert made.status_code == 200, made.text
            name = made.json()["id"]

            def state() -> dict[str, Any] | None:
                video: dict[str, Any] = http.get(f"/v1/videos/{name}").json()
                return None if video["status"] in ("queued", "in_progress") else video

            found = wait_for(state)
            assert found["status"] == "completed", found["error"]
            return found

        def artefact(video: dict[str, Any], stage: str) -> torch.Tensor:
            return Run.open(DataFolder(data).job(video["id"]).run).load(stage)  # type: ignore[arg-type]

        draft = ended(http.post("/v1/videos", json={**QUICK, "until": "keyframes", "adapters": {"walk": 0.5}}))
        steps = {stage: {"num_inference_steps": 2} for stage in ("interpolation", "super_resolution")}
        extra = {**steps, **SMALL}
        full = ended(http.post(f"/v1/videos/{draft['id']}/continue", json={"expert": "wan", "extra_params": extra}))
        assert (full["expert"], full["size"], full["adapters"]) == ("wan", "26x18", {"walk": 0.5})
        assert torch.equal(artefact(full, "keyframes"), artefact(draft, "keyframes"))
        file = tmp_path / "v.mp4"
        file.write_bytes(http.get(f"/v1/videos/{full['id']}/content").content)
        record = Video.load(file).metadata
        assert record["model"]["model"]["translation"] == str(wan)
        assert [a["name"] for a in record["model"]["adapters"]] == ["walk"]
        known = http.get("/v1/models").json()["data"][0]["experts"][0]
        assert (known["name"], known["model"]) == ("wan", record["model"]["name"])

        again = http.post(f"/v1/videos/{full['id']}/continue", json={"draft": 1})
        assert again.status_code == 409, "all of it is finished, by the same expert"
        few = {"expert": "none", "extra_params": {"translation": {"num_inference_steps": 2}}}
        own = ended(http.post(f"/v1/videos/{full['id']}/continue", json=few))
        assert own["expert"] is None and own["size"] == "256x160"
        assert torch.equal(artefact(own, "super_resolution"), artefact(full, "super_resolution"))
        changed = {"adapters": {}, "expert": "wan"}
        refused = http.post(f"/v1/videos/{own['id']}/continue", json=changed)
        assert refused.status_code == 400 and "what these were made with stays" in refused.text
        assert json.loads(refused.text)["error"]["param"] == "adapters"
        assert server.terminate() == 0
