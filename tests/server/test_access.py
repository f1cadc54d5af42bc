"""Who may use a server, while its keys change."""

import json
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from show1.errors import InputError

fastapi = pytest.importorskip("fastapi")

from show1.server.access import Access, Refused  # noqa: E402
from show1.server.keys import KeyFile  # noqa: E402


def request(**headers: str) -> Any:
    """A request to a server on this machine."""
    pairs = [(name.encode(), text.encode()) for name, text in {"host": "localhost", **headers}.items()]
    return fastapi.Request({"type": "http", "headers": pairs})


@pytest.mark.parametrize(("host", "open_to_all"), [("127.0.0.1", False), ("0.0.0.0", False), ("0.0.0.0", True)])
@pytest.mark.parametrize("loss", ["the last key is removed", "the file is lost"])
def test_a_server_without_its_keys_stays_closed(tmp_path: Path, host: str, open_to_all: bool, loss: str) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    ann = keys.add("ann")
    access = Access(keys, host=host, open_to_all=open_to_all)
    shown = access.key(request(authorization=f"Bearer {ann}"))
    assert shown.name == "ann" and access.is_valid(shown)
    if loss == "the file is lost":
        (tmp_path / "keys.json").unlink()
    else:
        keys.remove("ann")
    assert not access.is_valid(shown)
    for asked in (request(), request(authorization=f"Bearer {ann}")):
        with pytest.raises(Refused) as refused:
            access.key(asked)
        assert refused.value.status == 401


def test_a_free_server_is_closed_by_its_first_key(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    access = Access(keys, host="127.0.0.1")
    nobody = access.key(request())
    assert nobody.name == "" and access.is_valid(nobody)
    KeyFile(tmp_path / "keys.json").add("ann")
    assert not access.is_valid(nobody)
    keys.remove("ann")
    with pytest.raises(Refused):
        access.key(request())
    with pytest.raises(InputError, match="show1 keys add"):
        Access(keys, host="0.0.0.0")


def test_keys_that_are_added_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    threads = [threading.Thread(target=KeyFile(path).add, args=(f"key{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(json.loads(path.read_text())) == [f"key{i}" for i in range(8)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
