"""Hostile clients: whatever they send, no answer says that the server failed, and nothing is written elsewhere."""

import gc
import json
import random
import re
import resource
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from show1 import Show1Pipeline
from tests.server.processes import wait_for

fastapi = pytest.importorskip("fastapi")
testclient = pytest.importorskip("starlette.testclient")
pytestmark = [
    pytest.mark.filterwarnings("ignore::starlette.exceptions.StarletteDeprecationWarning"),
    # of a form that is cut off, Starlette leaves the file to the garbage collector, which runs here, not in other tests
    pytest.mark.filterwarnings("ignore:.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The application of a server without a worker."""
    from show1.server.access import Access
    from show1.server.app import make_app
    from show1.server.jobs import DataFolder
    from show1.server.keys import KeyFile
    from show1.server.limits import ServerLimits
    from show1.server.queue import JobQueue
    from show1.server.service import Service

    path = tmp_path_factory.mktemp("hostile") / "data"
    for part in ("jobs", "workers"):
        (path / part).mkdir(parents=True)
    data = DataFolder(path)
    queue = JobQueue(data.database, model="mini")
    limits = ServerLimits(max_per_minute=1_000_000, max_queue=1_000_000, max_upload_mb=2)
    pipe = Show1Pipeline.from_pretrained("mini")
    service = Service(pipe, data, queue, model="mini", limits=limits, takes_adapters=True)
    app = make_app(service, Access(KeyFile(path / "keys.json"), host="127.0.0.1"))
    app.state.path = path
    yield app
    queue.close()


TEXTS = [
    "a cat", "", " ", "\0", "x" * 5000, "\ud800", "﷽" * 50, "../../etc/passwd", "%00",
    "'; DROP TABLE workflow_status;--", "\x1b[2J", "{{7*7}}", "<script>alert(1)</script>", "\u202e", "🐼" * 40,
    "/dev/zero", "file:///etc/passwd", "http://169.254.169.254/", "1" * 5000,
]  # fmt: skip
NUMBERS = [0, -1, 1, 2, 5, 10**30, -(10**30), 2**63, 2**53, 1e308, -1e308, 0.5, *map(float, ("inf", "-inf", "nan"))]
FIELDS = [
    "prompt", "model", "seconds", "size", "width", "height", "num_frames", "fps", "seed", "count", "start_from",
    "until", "extra_params", "negative_prompt", "num_inference_steps", "guidance_scale", "draft", "key", "output_path",
    "input_reference", "adapters", "expert", "stage", "name", "extra_params[keyframes][width]",
    "a[b][c][d][e]", "__proto__", "[", "",
]  # fmt: skip
PATHS = [
    "/v1/videos", "/v1/videos/sync", "/v1/videos/{id}", "/v1/videos/{id}/content", "/v1/videos/{id}/continue",
    "/v1/videos/{id}/remix", "/v1/videos/{id}/cancel", "/v1/videos/{id}/stages/{stage}", "/v1/videos/{id}/preview",
    "/v1/inspect", "/v1/adapters", "/v1/adapters/{id}", "/v1/session", "/v1/models/{id}", "/v1/events", "/metrics",
    "/ready", "/openapi.json", "/", "/app.js", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
    "/v1/videos/..%2f..%2fjobs.sqlite", "//evil", "/v1/videos/%00",
]  # fmt: skip
METHODS = {
    "/v1/videos": ["GET", "POST", "POST", "POST"], "/v1/videos/{id}": ["GET", "DELETE"],
    "/v1/videos/sync": ["POST"], "/v1/videos/{id}/continue": ["POST"], "/v1/videos/{id}/remix": ["POST"],
    "/v1/videos/{id}/cancel": ["POST"], "/v1/inspect": ["POST"], "/v1/session": ["POST"],
    "/v1/adapters": ["GET", "POST"], "/v1/adapters/{id}": ["DELETE"],
}  # fmt: skip
"""What paths take; the others take GET."""
HEADERS = [
    ("range", "bytes=999999999999-"), ("authorization", "Bearer \xff"), ("origin", "http://[x"), ("host", "[::"),
    ("content-length", "99999999999"), ("content-encoding", "gzip"), ("cookie", "show1_key=\xe9; a"),
]  # fmt: skip
STAGES = ["keyframes", "translation", "nothing", "..", "%2e%2e%2fmanifest.json", "keyframes%00"]


class Stranger:
    """Makes requests that nobody should."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ids = ["video_" + "0" * 32, "video_", "../x", "a" * 3000, "%00", "video_" + "0" * 31 + "%0a"]

    def value(self, depth: int = 0) -> Any:
        choose = self.random
        kinds = [
            lambda: choose.choice(TEXTS),
            lambda: choose.choice(NUMBERS),
            lambda: choose.choice([None, True, False]),
            lambda: [self.value(depth + 1) for _ in range(choose.randrange(3))],
            lambda: {choose.choice([*FIELDS, "keyframes", "translation"]): self.value(depth + 1) for _ in range(3)},
        ]
        return choose.choice(kinds[:3] if depth > 3 else kinds)()

    def body(self) -> dict[str, Any]:
        fields = {self.random.choice(FIELDS): self.value() for _ in range(self.random.randrange(5))}
        if self.random.random() < 0.7:
            fields["prompt"] = self.random.choice(TEXTS)
        if self.random.random() < 0.5:
            fields["until"] = "keyframes"
        return fields

    def content(self) -> tuple[bytes, str]:
        """A body and its type."""
        choose = self.random
        kind = choose.randrange(8)
        text = json.dumps(self.body()).encode()
        if kind == 0:
            return b"[" * 100_000 + b"]" * 100_000, "application/json"
        if kind == 1:
            return text[: choose.randrange(len(text) + 1)], "application/json"
        if kind == 2:
            types = ["application/json", "image/png", "text/x;;=", ""]
            return choose.randbytes(choose.randrange(2000)), choose.choice(types)
        if kind == 3:
            return b'{"prompt": "' + b"x" * 1_500_000 + b'"}', "application/json"
        if kind == 4:
            return self.form(), choose.choice(
                [f"multipart/form-data{end}" for end in ("; boundary=b", "", "; boundary=c")]
            )
        if kind == 5:
            return b"&".join(b"prompt=a" for _ in range(choose.choice([1, 3000]))), "application/x-www-form-urlencoded"
        return text, "application/json"

    def form(self) -> bytes:
        """A form with more or less of a file."""
        choose, part = self.random, b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        parts = [part % (n.encode(), b"", str(v).encode("utf-8", "replace")) for n, v in self.body().items()]
        if choose.random() < 0.6:
            where = choose.choice([b"input_reference", b"file", b"other"])
            parts.append(part % (where, b'; filename="../../x.mp4"', choose.randbytes(choose.randrange(3000))))
        return b"".join(parts) + choose.choice([b"--b--\r\n", b"", b"--b"])

    def send(self, client: Any) -> Any:
        choose = self.random
        path_of = choose.choice(PATHS)
        path = path_of.replace("{id}", choose.choice(self.ids)).replace("{stage}", choose.choice(STAGES))
        method = choose.choice(["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "BREW"])
        if choose.random() < 0.9:  # what the path takes, else most answers would be 405
            method = choose.choice(METHODS.get(path_of, ["GET"]))
        if method == "POST" and path.endswith("/sync"):
            path = path.removesuffix("/sync")  # it would wait, and there is no worker
        query = {}
        if path == "/v1/events" or choose.random() < 0.3:
            name = choose.choice(["ids", "limit", "after", "order", "variant", "draft"])
            query = {name: choose.choice([*TEXTS, "-1", "1e9"]).encode("utf-8", "replace")}
        content, kind = self.content() if method in ("POST", "PUT") else (b"", "")
        headers = {"content-type": kind.encode()} if kind else {}
        if choose.random() < 0.1:
            name, value = choose.choice(HEADERS)
            headers[name] = value.encode("latin-1")
        answer = client.request(method, path, params=query, content=content, headers=headers)
        if answer.status_code == 200 and method == "POST" and path == "/v1/videos":
            self.ids.append(answer.json()["id"])
        return answer


def attack(app: Any, seed: int, count: int) -> dict[int, int]:
    """Sends requests; returns how often each status came."""
    client = testclient.TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    stranger, statuses = Stranger(seed), dict[int, int]()
    for number in range(count):
        answer = stranger.send(client)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        if answer.request.url.path == "/ready":
            continue  # it says that no worker lives
        assert answer.status_code < 500, (number, answer.request, answer.text)
        # the answer to a range beyond the end has none
        has_body = answer.request.method not in ("HEAD", "OPTIONS") and answer.status_code != 416
        if answer.status_code >= 400 and has_body:
            assert set(answer.json()["error"]) == {"message", "type", "code", "param"}
            assert "Traceback" not in answer.text and "/src/" not in answer.text
    return statuses


def check_files(app: Any) -> None:
    """Nothing lies beside the data folder, and only jobs in it."""
    path = app.state.path
    assert [file.name for file in path.parent.iterdir()] == ["data"]
    assert {file.name.partition("-")[0] for file in path.iterdir()} <= {"jobs", "workers", "jobs.sqlite"}
    assert all(re.fullmatch("video_[0-9a-f]{32}", job.name) for job in (path / "jobs").iterdir())


def test_no_request_makes_the_server_fail(app: Any) -> None:
    statuses = attack(app, seed=1, count=300)
    assert {200, 400, 404} <= set(statuses), statuses
    check_files(app)


@pytest.mark.thousands
def test_ten_thousand_requests(app: Any) -> None:
    attack(app, seed=2, count=500)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    statuses = attack(app, seed=3, count=10_000)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{statuses}, memory grew by {grown:.0f} MB")
    assert grown < 200
    check_files(app)


@pytest.mark.slow
def test_schemathesis_finds_no_failure(app: Any) -> None:
    """Requests made from the OpenAPI document, valid and not."""
    schemathesis = pytest.importorskip("schemathesis")
    tried = 0

    def check(case: Any) -> None:
        nonlocal tried
        tried += 1
        answer = case.call(base_url="http://127.0.0.1", headers={"host": "127.0.0.1"})
        assert answer.status_code < 500 or case.path == "/ready", answer.text

    how = settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        derandomize=True,
        database=None,
    )
    for result in schemathesis.openapi.from_asgi(
        "/openapi.json", app, headers={"host": "127.0.0.1"}
    ).get_all_operations():
        operation = result.ok()
        if not operation.path.endswith(("/events", "/sync")):  # these wait for jobs
            how(given(case=operation.as_strategy())(check))()
    assert tried > 200
    check_files(app)


def test_a_stream_of_a_video_that_is_gone_ends(app: Any) -> None:
    client = testclient.TestClient(app, base_url="http://127.0.0.1")
    made = client.post("/v1/videos", json={"prompt": "a cat", "until": "keyframes"}).json()
    assert client.post(f"/v1/videos/{made['id']}/cancel").status_code == 200
    text = client.get(f"/v1/videos/{made['id']}/events").text
    assert "event: video" in text and text.endswith("event: end\ndata: {}\n\n")
    both = client.get(f"/v1/events?ids={made['id']},nothing").text
    assert "event: video" in both and 'event: deleted\ndata: {"id": "nothing"}' in both
    assert client.get("/v1/videos/nothing/events").status_code == 404
    assert client.delete(f"/v1/videos/{made['id']}").json()["deleted"]
    wait_for(lambda: client.get(f"/v1/videos/{made['id']}").status_code == 404, 5)


def test_a_job_that_cannot_be_read_is_left_out_and_can_be_deleted(app: Any) -> None:
    from show1.server.jobs import DataFolder, JobSpec, new_id
    from show1.server.queue import JobQueue

    client, odd = testclient.TestClient(app, base_url="http://127.0.0.1"), new_id()
    queue = JobQueue(DataFolder(app.state.path).database, model="mini")
    queue.submit(odd, JobSpec.model_construct(request={"of": "another version"}, model="mini"))
    queue.close()
    good = client.post("/v1/videos", json={"prompt": "a cat", "until": "keyframes"}).json()["id"]
    listed = [video["id"] for video in client.get("/v1/videos").json()["data"]]
    assert listed[0] == good and odd not in listed
    assert client.get(f"/v1/videos/{good}").status_code == 200
    refused = client.get(f"/v1/videos/{odd}")
    assert refused.status_code == 409 and "another version" in refused.json()["error"]["message"]
    assert client.delete(f"/v1/videos/{odd}").json()["deleted"]
    assert client.get(f"/v1/videos/{odd}").status_code == 404


def test_a_session_takes_no_file(app: Any) -> None:
    """Whoever has no key yet cannot fill the server with uploads."""
    client = testclient.TestClient(app, base_url="http://127.0.0.1")
    for how in ({"files": {"key": b"x" * 100_000}}, {"data": {"key": "x"}}, {"content": b"{}"}):
        answer = client.post("/v1/session", **how)
        assert answer.status_code == 400 and "JSON" in answer.json()["error"]["message"]
    assert client.post("/v1/session", json={"key": "x"}).status_code == 401


def test_what_is_not_there_is_said(app: Any) -> None:
    client = testclient.TestClient(app, base_url="http://127.0.0.1")
    made = client.post("/v1/videos", json={"prompt": "a cat", "until": "keyframes"}).json()["id"]
    address = "http://example.com/a.mp4"
    for method, path, body, status, says in (
        ("GET", f"/v1/videos/{made}/stages/translation", None, 404, "this video has no stage translation"),
        ("GET", "/v1/video", None, 404, "nothing at this address"),
        ("PUT", "/v1/videos", None, 405, "does not take this method"),
        ("POST", "/v1/videos", {"prompt": "a", "input_reference": address}, 400, "must be a file in a form"),
    ):
        answer = client.request(method, path, json=body)
        assert answer.status_code == status and says in answer.json()["error"]["message"], answer.text
    content = client.get("/openapi.json").json()["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    assert content["multipart/form-data"]["schema"]["properties"]["input_reference"]["format"] == "binary"
    assert "input_reference" not in content["application/json"]["schema"]["properties"]
    assert content["application/json"]["schema"]["properties"]["prompt"]["description"] == "What the video shows."
    client.delete(f"/v1/videos/{made}")
