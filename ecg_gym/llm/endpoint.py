"""From an address to a transport: this machine, a replay, or (only by request) another machine by HTTPS."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from ecg_gym.llm.transcript import replay
from ecg_gym.llm.transport import HTTP, MAX_BYTES, Transport, is_loopback


def connect(url: str, *, remote: bool = False, key: str | None = None, max_bytes: int = MAX_BYTES) -> Transport:
    """The transport for ``http://localhost:8080/v1`` (a base that ``/chat/completions`` follows) or ``replay://FILE``.

    Without ``remote`` only this machine is spoken to. ``key`` is sent as a bearer token and kept nowhere.
    ``ValueError`` for an address that is not allowed.
    """
    parts = urlsplit(url)
    if parts.scheme == "replay":
        return replay(Path(url.removeprefix("replay://")))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError(
            f"the endpoint is {_without_user(url)!r}; expected http(s)://host[:port]/v1 or replay://FILE; "
            "pass the base address of the server, without user, query or fragment"
        )
    if not is_loopback(parts.hostname):
        if not remote:
            raise ValueError(
                f"the endpoint is on {parts.hostname!r}; expected this machine (localhost, 127.0.0.1 or ::1); "
                "what is asked leaves this machine only with remote=True (--remote)"
            )
        if parts.scheme != "https":
            raise ValueError(
                f"the endpoint is http on {parts.hostname!r}; expected https beyond this machine; use https"
            )
    return HTTP(
        parts.scheme, parts.hostname, parts.port, parts.path.rstrip("/") + "/chat/completions", remote, key, max_bytes
    )


def _without_user(url: str) -> str:
    """The address as it may be shown: without a password that somebody put into it."""
    head, at, tail = url.rpartition("@")
    return f"{head.split('//')[0]}//...@{tail}" if at else url
