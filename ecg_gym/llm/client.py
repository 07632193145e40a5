"""``ChatClient.ask``: messages and a JSON schema in, a value that fits the schema out, or ``NoAnswerError``.

Servers differ in what they can bind an answer to, so three levels are tried in turn: ``json_schema``, ``json_object``,
plain text with a JSON object in it. Whatever the level, the answer is checked here. Time, requests and sizes are
bounded. The text of a model is data: it is parsed as JSON, compared with the schema, and nothing else happens to it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecg_gym.llm.parsing import NotJSONError, load_json, object_in
from ecg_gym.llm.schema import violations, wire_schema
from ecg_gym.llm.transport import Reply, Transport, TransportError

LEVELS = ("json_schema", "json_object", "text")
UNSUPPORTED = (400, 415, 422, 501)  # a server's way to say that it does not know a response format
BUSY = (408, 425, 429, 502, 503, 504)
LONGEST_WAIT_S = 5.0  # [s] before a busy server is asked again


@dataclass(frozen=True)
class Answer:
    """A value that fits the schema, and what it took."""

    value: Any
    level: str  # one of LEVELS
    requests: int  # sent for this answer
    slips: tuple[str, ...]  # one word for each reply that was of no use


class NoAnswerError(RuntimeError):
    """No usable answer within the bounds; ``slips`` names each failure in order."""

    def __init__(self, slips: Sequence[str], last: str) -> None:
        super().__init__(
            f"no usable answer after {len(slips)} requests ({', '.join(slips)}; last: {last}); expected JSON that fits "
            "the schema; check the server and the name of the model"
        )
        self.slips = tuple(slips)


class _SlipError(Exception):
    def __init__(self, slip: str, message: str, content: str | None = None) -> None:
        super().__init__(message)
        self.slip, self.content = slip, content


class ChatClient:
    """A chat model behind a transport (:func:`ecg_gym.llm.connect`, ``Scripted``, ``Transcript``)."""

    def __init__(
        self,
        transport: Transport,
        model: str = "default",
        *,
        retries: int = 2,  # after an answer that is of no use
        seconds: float = 30.0,  # [s] of one request
        total_seconds: float = 90.0,  # [s] of one question, retries included
        max_tokens: int = 600,
        seed: int = 0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if retries < 0 or not seconds > 0 or not total_seconds > 0 or max_tokens < 1:
            raise ValueError(
                f"retries, seconds, total_seconds, max_tokens are {retries}, {seconds}, {total_seconds}, {max_tokens}; "
                "expected no negative number and positive times; correct them"
            )
        self.transport, self.model, self.retries, self.seed = transport, model, retries, seed
        self.seconds, self.total_seconds, self.max_tokens, self.sleep = seconds, total_seconds, max_tokens, sleep
        self.level = 0  # of LEVELS; only ever goes down

    def ask(self, messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], name: str = "answer") -> Answer:
        """The model's answer to ``messages`` (``{"role", "content"}``), checked against ``schema``.

        ``NoAnswerError`` when there is none within the bounds. ``ValueError`` for a schema that cannot be checked.
        """
        violations({}, schema)  # a schema with unknown keywords is refused before anything is sent
        conversation, slips, errors_500 = list(messages), list[str](), 0
        deadline = time.monotonic() + self.total_seconds
        left, last = self.retries + 1, "nothing was sent"
        while left > 0 and (seconds := min(self.seconds, deadline - time.monotonic())) > 0:
            try:
                reply = self._send(conversation, schema, name, seconds)
                value = self._value(reply, schema)
            except _SlipError as slip:
                slips.append(slip.slip)
                last = str(slip)
                if slip.slip == "not supported" and self.level + 1 < len(LEVELS):
                    self.level += 1
                    continue
                if slip.slip in ("refused", "not supported", "not recorded", "redirect"):
                    break
                left -= 1
                if slip.slip == "server error":
                    errors_500 += 1
                    self.level = min(self.level + (errors_500 == 2), len(LEVELS) - 1)
                if slip.content is not None:
                    conversation = [*messages, *_correction(slip)]
                continue
            return Answer(value, LEVELS[self.level], len(slips) + 1, tuple(slips))
        raise NoAnswerError(slips, last)

    def _send(
        self, messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], name: str, seconds: float
    ) -> Reply:
        try:
            reply = self.transport(self.request(messages, schema, name), seconds)
        except TransportError as error:
            raise _SlipError(error.slip, str(error)) from None
        if reply.status in BUSY:
            self.sleep(min(reply.retry_after_s if reply.retry_after_s is not None else 0.5, LONGEST_WAIT_S, seconds))
            raise _SlipError("busy", f"the server is busy (status {reply.status})")
        if reply.status in UNSUPPORTED:
            raise _SlipError("not supported", f"the server does not take {LEVELS[self.level]} (status {reply.status})")
        if reply.status >= 500:
            raise _SlipError("server error", f"the server failed (status {reply.status})")
        if reply.status != 200:
            raise _SlipError("refused", f"the server refuses (status {reply.status}): wrong address, key or model")
        return reply

    def request(self, messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], name: str) -> dict[str, Any]:
        """The body that is sent at the present level."""
        bare = wire_schema(schema)
        rule = {
            "role": "system",
            "content": f"Answer with one JSON object that fits this JSON schema: {json.dumps(bare)}",
        }
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [rule, *map(dict, messages)],
            "temperature": 0,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "stream": False,
        }
        if LEVELS[self.level] == "json_schema":
            inner = {"name": name, "strict": True, "schema": bare}
            body["response_format"] = {"type": "json_schema", "json_schema": inner}
        elif LEVELS[self.level] == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def _value(self, reply: Reply, schema: Mapping[str, Any]) -> Any:
        content, complete = _content(reply.text)
        try:
            value = object_in(content)
        except NotJSONError as error:
            slip = "not json" if complete else "truncated"
            raise _SlipError(slip, str(error), content) from None
        if wrong := violations(value, schema):
            raise _SlipError("off schema", "; ".join(wrong[:5]), content)
        return value


def _content(text: str) -> tuple[str, bool]:
    """The text of the first choice of a chat completion, and whether the model came to its end."""
    try:
        choice = load_json(text)["choices"][0]
        content = choice["message"]["content"]
        complete = choice.get("finish_reason") != "length"
    except (NotJSONError, KeyError, IndexError, TypeError, AttributeError):
        raise _SlipError("no completion", "the reply is no chat completion") from None
    if not isinstance(content, str) or not content.strip():
        raise _SlipError("empty", "the answer is empty")
    return content, complete


def _correction(slip: _SlipError) -> list[dict[str, str]]:
    """The answer that was of no use, and what was wrong with it; at temperature 0 a plain retry changes nothing."""
    return [
        {"role": "assistant", "content": (slip.content or "")[:2000]},
        {
            "role": "user",
            "content": f"This does not fit: {slip}. Answer again with one JSON object that fits the schema.",
        },
    ]
