"""One request to a chat server: where it may go, how long it may take, how much may come back.

A transport is ``(body, seconds) -> Reply``; :class:`Scripted` and the replay of a transcript are transports too.
Redirects are not followed, proxies of the environment are not used, and nothing is sent before the peer of the
connection is known to be this machine, unless ``remote=True``; then only HTTPS will do.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 262_144  # of one response


@dataclass(frozen=True)
class Reply:
    """What a server sent: its HTTP status and its body as text."""

    status: int
    text: str
    retry_after_s: float | None = None  # [s], where a server that is busy says so


class TransportError(RuntimeError):
    """No reply that could be read; ``slip`` is one word for it, as counted and as kept in transcripts."""

    def __init__(self, slip: str, message: str) -> None:
        super().__init__(message)
        self.slip = slip


Transport = Callable[[Mapping[str, Any], float], Reply]


@dataclass(frozen=True)
class HTTP:
    """POST to one address. ``repr`` shows no key."""

    scheme: str
    host: str
    port: int | None
    path: str
    remote: bool
    key: str | None
    max_bytes: int

    def __repr__(self) -> str:
        return f"HTTP({self.scheme}://{self.host}:{self.port or ''}{self.path})"

    def __call__(self, body: Mapping[str, Any], seconds: float) -> Reply:
        """The reply within ``seconds``, all of it; ``TransportError`` otherwise."""
        connection = self._connection(seconds)
        late, sockets = threading.Event(), list[socket.socket]()
        watch = threading.Timer(seconds, _cut, (sockets, late))
        watch.daemon = True
        watch.start()
        try:
            reply = self._exchange(connection, sockets, json.dumps(body).encode())
            if late.is_set():  # cut off, and what came before it may look complete
                raise TransportError("timeout", f"no reply within {seconds:g} s")
            return reply
        except TransportError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a broken chunk length
            if late.is_set() or isinstance(error, TimeoutError):
                raise TransportError("timeout", f"no reply within {seconds:g} s") from None
            raise TransportError("connection", f"the connection failed: {type(error).__name__}") from None
        finally:
            watch.cancel()
            connection.close()

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        if self.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self.host, self.port, timeout=seconds, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=seconds)

    def _exchange(self, connection: http.client.HTTPConnection, sockets: list[socket.socket], question: bytes) -> Reply:
        connection.connect()
        sockets.append(connection.sock)  # the connection forgets its socket before a body without length is read
        peer = connection.sock.getpeername()[0]
        if not self.remote and not is_loopback(peer):
            raise TransportError("connection", f"{self.host!r} leads to another machine; expected this one")
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        connection.request("POST", self.path, body=question, headers=headers)
        response = connection.getresponse()
        if 300 <= response.status < 400:
            raise TransportError(
                "redirect", f"the server redirects (status {response.status}); redirects are not followed"
            )
        content = response.read(self.max_bytes + 1)
        if len(content) > self.max_bytes:
            raise TransportError("too large", f"the reply is longer than {self.max_bytes} bytes")
        if response.length:
            raise TransportError("connection", f"the reply ends {response.length} bytes early")
        try:
            return Reply(response.status, content.decode("utf-8"), _seconds(response.getheader("Retry-After")))
        except UnicodeDecodeError:
            raise TransportError("not utf-8", "the reply is not UTF-8 text") from None


class Scripted:
    """A transport that gives the texts of a list in turn, for tests and examples; ``requests`` keeps what was asked."""

    def __init__(self, contents: Iterable[str]) -> None:
        self.contents = iter(contents)
        self.requests: list[dict[str, Any]] = []

    def __call__(self, body: Mapping[str, Any], seconds: float) -> Reply:
        """The next text as a chat completion; ``TransportError`` when the script is at its end."""
        self.requests.append(json.loads(json.dumps(body)))
        content = next(self.contents, None)
        if content is None:
            raise TransportError("connection", "the script is at its end")
        message = {"role": "assistant", "content": content}
        return Reply(200, json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))


def _cut(sockets: list[socket.socket], late: threading.Event) -> None:
    """End the exchange whose time is up, whatever it is waiting for."""
    late.set()
    for sock in sockets:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine; names other than ``localhost`` are not looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None
