"""The options of commands that speak to a chat server, and the client they make."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ecg_gym.llm import ChatClient

KEY = "ECG_GYM_LLM_KEY"  # environment variable with the key of an endpoint that wants one
TRANSCRIPT = "transcript.jsonl"

Endpoint = Annotated[
    str | None, typer.Option(help="OpenAI-compatible server (http://localhost:8080/v1) or replay://FILE.")
]
ChatModel = Annotated[str, typer.Option(help="Name of the model at the endpoint.")]
Remote = Annotated[bool, typer.Option("--remote", help="Let the endpoint be another machine (HTTPS only).")]


def chat_client(endpoint: str | None, model: str, remote: bool, folder: Path) -> ChatClient:
    """A client for ``endpoint`` that keeps its exchanges in ``folder``, so that they can be replayed without it.

    ``ValueError`` without an endpoint, or for one that is not allowed.
    """
    from ecg_gym.llm import ChatClient, connect
    from ecg_gym.llm.transcript import resume

    if endpoint is None:
        raise ValueError(
            "a language model was asked for without --endpoint; expected a server or replay://FILE; pass --endpoint"
        )
    transport = connect(endpoint, remote=remote, key=os.environ.get(KEY))
    return ChatClient(transport if endpoint.startswith("replay:") else resume(transport, folder / TRANSCRIPT), model)
