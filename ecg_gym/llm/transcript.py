"""Exchanges with a chat server in one JSONL file: what was asked, what came back, no key and no address; replayable.

A line is ``{"key": hash of the request, "request": ..., "status": ..., "text": ..., "slip": ..., "seconds": ...}``.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecg_gym.llm.transport import Reply, Transport, TransportError


def request_key(body: Mapping[str, Any]) -> str:
    """SHA-256 of a request in canonical form, 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Transcript:
    """A transport that keeps every exchange of another one in ``path``; on disk before the reply is used."""

    def __init__(self, transport: Transport, path: Path) -> None:
        self.transport, self.path = transport, Path(path)

    def __call__(self, body: Mapping[str, Any], seconds: float) -> Reply:
        """The other transport's reply, or its ``TransportError``; both are kept."""
        began = time.monotonic()
        try:
            reply = self.transport(body, seconds)
        except TransportError as error:
            self._keep(body, {"slip": error.slip, "message": str(error)}, began)
            raise
        self._keep(body, {"status": reply.status, "text": reply.text}, began)
        return reply

    def _keep(self, body: Mapping[str, Any], outcome: Mapping[str, Any], began: float) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        row = {
            "key": request_key(body),
            "request": dict(body),
            **outcome,
            "seconds": round(time.monotonic() - began, 3),
        }
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())


def replay(path: Path) -> Transport:
    """A transport that answers each request as the transcript has it; the same request twice gets its replies in turn.

    ``ValueError`` when there is no such file; a request that was never made is a ``TransportError`` ("not recorded").
    """
    if not path.is_file():
        raise ValueError(f"there is no transcript {path.name!r}; expected a JSONL file of exchanges; check the name")
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            rows[row["key"]].append(row)
        except (ValueError, KeyError, TypeError):  # the last line, cut off
            continue
    uses: dict[str, int] = defaultdict(int)

    def answer(body: Mapping[str, Any], seconds: float) -> Reply:
        key = request_key(body)
        if not rows[key]:
            raise TransportError(
                "not recorded", "the transcript holds no such request; record it again with the server"
            )
        row = rows[key][min(uses[key], len(rows[key]) - 1)]
        uses[key] += 1
        if "slip" in row:
            raise TransportError(row["slip"], row.get("message", ""))
        return Reply(row["status"], row["text"])

    return answer


def resume(transport: Transport, path: Path) -> Transport:
    """A transport that keeps a transcript and, after an interruption, answers from it what was asked before."""
    path = Path(path)
    before: Transport | None = replay(path) if path.is_file() else None
    live = Transcript(transport, path)

    def answer(body: Mapping[str, Any], seconds: float) -> Reply:
        if before is not None:
            try:
                return before(body, seconds)
            except TransportError as error:
                if error.slip != "not recorded":
                    raise
        return live(body, seconds)

    return answer
