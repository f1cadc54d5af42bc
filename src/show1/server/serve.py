"""One process that answers clients, and another one, which it watches, that computes."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from show1.errors import InputError
from show1.server.jobs import PARENT

logger = logging.getLogger(__name__)

SECONDS_FOR_ANSWERS = 3
"""How long open answers may take when the server stops."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that clients can reach.

    Args:
        host: The address.
        port: The port; 0: any that is free.

    Raises:
        InputError: It is taken, or not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
    except (OSError, OverflowError) as error:
        opened.close()
        raise InputError(f"{host} port {port} cannot be used: {error}; choose another with --port or --host") from error
    return opened


def answer(app: FastAPI, opened: socket.socket) -> None:
    """Answers clients until the process is asked to stop."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SECONDS_FOR_ANSWERS,
        h11_max_incomplete_event_size=64 << 10,
    )
    with contextlib.suppress(KeyboardInterrupt):  # it raises the signal again when it has stopped
        uvicorn.Server(config).run(sockets=[opened])


@contextmanager
def watched_worker(words: Sequence[str], variables: Mapping[str, str], *, grace: float) -> Iterator[None]:
    """Runs a worker inside the block; one that ends before is started again.

    Args:
        words: What follows `show1 worker`.
        variables: Variables of its environment, such as those that hold a password.
        grace: Seconds that its stage has to finish at the end.
    """
    stop = threading.Event()
    command = [sys.executable, "-m", "show1", "worker", *words]
    environment = {**os.environ, **variables, PARENT: str(os.getpid())}
    running: list[subprocess.Popen[Any]] = []

    def watch() -> None:
        pause = 1.0
        while not stop.is_set():
            began = time.monotonic()
            running[:] = [subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)]
            code = running[0].wait()
            if stop.is_set():
                return
            pause = 1.0 if time.monotonic() - began > 60 else min(2 * pause, 60)
            logger.error("the worker ended with code %s; it is started again in %g seconds", code, pause)
            stop.wait(pause)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(grace + 10)
            except subprocess.TimeoutExpired:
                process.kill()
        thread.join(5)
