"""How workers tell a dead one from one that lives."""

import time
from pathlib import Path

import pytest

pytest.importorskip("dbos")

from show1.server.locks import AdvisoryLocks, FileLocks  # noqa: E402
from tests.server.processes import POSTGRES, postgres  # noqa: E402


def test_a_file_tells_whether_a_worker_lives(tmp_path: Path) -> None:
    ann, bob = FileLocks(tmp_path, "ann"), FileLocks(tmp_path, "bob")
    ann.hold()
    bob.hold()
    with ann.freed("bob") as dead:
        assert not dead
    bob._own.release()  # as when its process ends
    with ann.freed("bob") as dead, FileLocks(tmp_path, "cid").freed("bob") as again:
        assert dead and not again
    assert [file.name for file in tmp_path.iterdir()] == ["ann.lock"]
    ann.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL is installed (apt-get install postgresql)")
def test_nobody_is_dead_just_because_postgresql_was_started_again() -> None:
    with postgres() as server:
        ann, bob = (AdvisoryLocks(server.url, name, settle_seconds=1) for name in ("ann", "bob"))
        ann.hold()
        bob.hold()
        time.sleep(1)
        with ann.freed("bob") as dead:
            assert not dead
        server.stop()
        for locks in (ann, bob):
            with pytest.raises(ConnectionError):
                locks.hold()
        server.start()
        ann.hold()
        with ann.freed("bob") as dead:
            assert not dead, "bob has not had the time to take its lock again"
        bob.hold()
        bob.close()
        time.sleep(1)
        with ann.freed("bob") as dead:
            assert dead
            with pytest.raises(ConnectionError, match="another worker"):
                bob.hold()
        bob.hold()
        ann.close()
        bob.close()
