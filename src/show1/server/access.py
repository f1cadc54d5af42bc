"""Who may use a server: API keys, sessions of the page, and which web sites may talk to it."""

import ipaddress
from urllib.parse import urlsplit

from fastapi import Request

from show1.errors import InputError
from show1.server.keys import Key, KeyFile, anonymous

COOKIE = "show1_key"
"""The cookie that the page keeps a key in; scripts cannot read it."""
LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}


class Refused(Exception):
    """A client may not do this."""

    def __init__(self, status: int, message: str, code: str) -> None:
        """Takes the status code, the message, and a code for programs."""
        super().__init__(message)
        self.status, self.code = status, code


class Access:
    """Decides who may use a server."""

    def __init__(self, keys: KeyFile, *, host: str, open_to_all: bool = False) -> None:
        """Takes the keys, and where the server listens.

        Args:
            keys: If there are none when the server starts, everybody who reaches it may use it, until there are some.
            host: The address that it listens on.
            open_to_all: Whether that is wanted beyond this machine.

        Raises:
            InputError: The address is one that other machines reach, there are no keys, and that is not wanted.
        """
        self._keys = keys
        self._is_local = is_loopback(host)
        self._is_free = not keys.keys()
        if not self._is_local and self._is_free and not open_to_all:
            raise InputError(
                f"other machines reach {host}, and there is no API key: make one with `show1 keys add NAME`, or let "
                "everybody in with --open"
            )

    @property
    def is_free(self) -> bool:
        """Whether no key is needed. A server that has had keys stays closed when the last one, or the file, is gone."""
        if self._is_free and self._keys.keys():
            self._is_free = False
        return self._is_free

    def key(self, request: Request) -> Key:
        """The key of a client.

        Raises:
            Refused: It shows none of the server's keys.
        """
        if self.is_free:
            return anonymous()
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        given = given.strip() if scheme.lower() == "bearer" else request.cookies.get(COOKIE, "")
        found = self.known(given) if given else None
        if found is None:
            what = "this API key is not known here" if given else "an API key is needed: Authorization: Bearer KEY"
            raise Refused(401, what, "invalid_api_key")
        return found

    def known(self, key: str) -> Key | None:
        """The key that a client shows; None if the server does not know it."""
        return self._keys.find(key)

    def is_valid(self, key: Key) -> bool:
        """Whether a key that was accepted before still is."""
        known = self._keys.keys().get(key.name)
        return self.is_free if known is None else known.sha256 == key.sha256

    def check_origin(self, request: Request) -> None:
        """Makes sure that no foreign web site uses the server by way of its visitor's browser.

        Raises:
            Refused: The request comes from a page of another site, or names the server in a way that only a page that
                has rebound its name would.
        """
        host = request.headers.get("host", "")
        if self._is_local and self.is_free and _hostname(f"//{host}") not in LOOPBACK_NAMES:
            raise Refused(403, "use http://localhost or http://127.0.0.1 to reach this server", "wrong_host")
        origin = request.headers.get("origin")
        if origin is not None and _place(origin) != host:
            raise Refused(403, "pages of other sites may not use this server", "wrong_origin")
        if request.headers.get("sec-fetch-site") == "cross-site":
            raise Refused(403, "pages of other sites may not use this server", "wrong_origin")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _hostname(netloc: str) -> str:
    try:
        return urlsplit(netloc).hostname or ""
    except ValueError:
        return ""


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
