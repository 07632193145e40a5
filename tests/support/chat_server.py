"""A chat server on this machine that behaves as a test says, byte by byte where it must."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Behaviour = Callable[[socket.socket], None]


@dataclass
class Stub:
    """Where the server listens and what it was asked."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)


@contextmanager
def serve(behaviours: Sequence[Behaviour]) -> Iterator[Stub]:
    """Connections get ``behaviours`` in turn, the last one again and again."""
    listener = socket.create_server(("127.0.0.1", 0))
    stub = Stub(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    threads: list[threading.Thread] = []

    def handle(connection: socket.socket, behave: Behaviour) -> None:
        with connection, suppress(OSError):
            head, body = read_request(connection)
            stub.heads.append(head)
            stub.bodies.append(json.loads(body))
            behave(connection)

    def accept() -> None:
        number = 0
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            behave = behaviours[min(number, len(behaviours) - 1)]
            number += 1
            thread = threading.Thread(target=handle, args=(connection, behave), daemon=True)
            thread.start()
            threads.append(thread)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield stub
    finally:
        listener.close()


def read_request(connection: socket.socket) -> tuple[str, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, body = data.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    return head.decode(), body


def raw(status: str, body: bytes, *headers: str) -> Behaviour:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    content = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    return lambda connection: connection.sendall(content)


def completion(content: Any, finish_reason: str = "stop") -> Behaviour:
    message = {"role": "assistant", "content": content}
    return raw("200 OK", json.dumps({"choices": [{"message": message, "finish_reason": finish_reason}]}).encode())


def hang(connection: socket.socket) -> None:
    time.sleep(3)


def drip(connection: socket.socket) -> None:
    """One byte now and then, so that no single read ever times out."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(60):
        connection.sendall(b" ")
        time.sleep(0.05)


def drip_head(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(60):
        connection.sendall(b"a")
        time.sleep(0.05)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(4096):
        connection.sendall(b"x" * 65536)


def short_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{}")


def broken_chunk(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n")


def no_http(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
