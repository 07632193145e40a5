"""The client against a server on this machine: good answers at each level, and some thirty bad behaviours."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import chat_server as stub
import pytest

from ecg_gym.llm import ChatClient, NoAnswerError, Scripted, Transcript, choice_schema, connect
from ecg_gym.llm.transport import TransportError

SCHEMA = choice_schema(["reaction MS", "stop"])
GOOD = '{"diagnosis": "the plateau is too short", "action": "reaction MS"}'
ASK = [{"role": "user", "content": "choose"}]


def client(url: str, **changes: Any) -> ChatClient:
    settings: dict[str, Any] = {"seconds": 0.5, "total_seconds": 5.0, "sleep": lambda _: None, **changes}
    return ChatClient(connect(url), **settings)


def test_a_good_answer_at_the_first_level() -> None:
    with stub.serve([stub.completion(GOOD)]) as server:
        answer = client(server.url, model="m").ask(ASK, SCHEMA, "leads_action")
    assert answer.value["action"] == "reaction MS"
    assert (answer.level, answer.requests, answer.slips) == ("json_schema", 1, ())
    (body,) = server.bodies
    assert body["temperature"] == 0
    assert body["model"] == "m"
    assert body["response_format"]["json_schema"]["schema"]["properties"]["action"]["enum"] == ["reaction MS", "stop"]
    assert "maxLength" not in json.dumps(body)  # servers in strict mode refuse it; it is checked here
    assert server.heads[0].startswith("POST /v1/chat/completions ")


def test_levels_go_down_as_the_server_refuses_them_and_stay_down() -> None:
    refusal = stub.raw("400 Bad Request", b'{"error": "response_format"}')
    with stub.serve([refusal, refusal, stub.completion(f"Surely:\n```json\n{GOOD}\n```")]) as server:
        asking = client(server.url)
        answer = asking.ask(ASK, SCHEMA)
        again = asking.ask(ASK, SCHEMA)
    assert (answer.level, answer.requests, answer.slips) == ("text", 3, ("not supported", "not supported"))
    assert (again.level, again.requests) == ("text", 1)
    assert [body.get("response_format", {}).get("type") for body in server.bodies] == [
        "json_schema",
        "json_object",
        None,
        None,
    ]


BAD = {
    "hang": (stub.hang, "timeout"),
    "a byte now and then": (stub.drip, "timeout"),
    "a header without end": (stub.drip_head, "timeout"),
    "status 500": (stub.raw("500 Internal Server Error", b"oops"), "server error"),
    "status 429": (stub.raw("429 Too Many Requests", b"", "Retry-After: 99999"), "busy"),
    "empty body": (stub.raw("200 OK", b""), "no completion"),
    "empty answer": (stub.completion("  "), "empty"),
    "answer null": (stub.completion(None), "empty"),
    "answer a list": (stub.completion([GOOD]), "empty"),
    "no choices": (stub.raw("200 OK", b'{"choices": []}'), "no completion"),
    "choices a number": (stub.raw("200 OK", b'{"choices": 7}'), "no completion"),
    "body a list": (stub.raw("200 OK", b"[1]"), "no completion"),
    "a page": (stub.raw("200 OK", b"<html>hello</html>"), "no completion"),
    "truncated JSON": (stub.completion('{"diagnosis": "a", "act', "length"), "truncated"),
    "prose": (stub.completion("I would swap the reaction."), "not json"),
    "single quotes": (stub.completion(GOOD.replace('"', "'")), "not json"),
    "wrong schema": (stub.completion('{"action": "stop"}'), "off schema"),
    "action not allowed": (stub.completion('{"diagnosis": "", "action": "rm -rf"}'), "off schema"),
    "action a list": (stub.completion('{"diagnosis": "", "action": ["stop"]}'), "off schema"),
    "another key": (stub.completion('{"diagnosis": "", "action": "stop", "code": "x"}'), "off schema"),
    "a key twice": (stub.completion('{"diagnosis": "", "action": "no", "action": "stop"}'), "not json"),
    "diagnosis too long": (stub.completion(json.dumps({"diagnosis": "x" * 401, "action": "stop"})), "off schema"),
    "deep nesting": (stub.completion('{"a":' * 20000), "not json"),
    "deep nesting outside": (stub.raw("200 OK", b"[" * 100_000), "no completion"),
    "huge body": (stub.raw("200 OK", b"x" * 300_000), "too large"),
    "body without end": (stub.endless, "too large"),
    "not UTF-8": (stub.raw("200 OK", b'{"choices": "\xff\xfe"}'), "not utf-8"),
    "connection reset": (stub.reset, "connection"),
    "body cut off": (stub.short_body, "connection"),
    "broken chunks": (stub.broken_chunk, "connection"),
    "no HTTP": (stub.no_http, "connection"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_answer_is_counted_and_the_next_good_one_is_taken(name: str) -> None:
    behave, slip = BAD[name]
    with stub.serve([behave, stub.completion(GOOD)]) as server:
        answer = client(server.url).ask(ASK, SCHEMA)
    assert answer.value["action"] == "reaction MS"
    assert answer.slips == (slip,)


@pytest.mark.parametrize("name", BAD)
def test_a_server_that_stays_bad_ends_in_bounded_time(name: str) -> None:
    behave, slip = BAD[name]
    began = time.monotonic()
    with stub.serve([behave]) as server, pytest.raises(NoAnswerError, match=slip) as caught:
        client(server.url, seconds=0.2, retries=1).ask(ASK, SCHEMA)
    assert time.monotonic() - began < 30  # a deadline, not a speed: two tries of 0.2 s
    assert caught.value.slips == (slip, slip)


def test_all_questions_together_stay_within_the_total_time() -> None:
    began = time.monotonic()
    with stub.serve([stub.hang]) as server, pytest.raises(NoAnswerError, match="timeout"):
        client(server.url, seconds=0.3, total_seconds=0.5, retries=50).ask(ASK, SCHEMA)
    assert time.monotonic() - began < 30  # fifty tries of a server that hangs for 3 s would take longer


def test_a_redirect_is_not_followed() -> None:
    with stub.serve([stub.completion(GOOD)]) as elsewhere:
        away = stub.raw("307 Temporary Redirect", b"", f"Location: {elsewhere.url}/chat/completions")
        with stub.serve([away]) as server, pytest.raises(NoAnswerError, match="redirect"):
            client(server.url).ask(ASK, SCHEMA)
    assert elsewhere.bodies == []


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found"])
def test_a_refusal_is_final(status: str) -> None:
    with stub.serve([stub.raw(status, b"")]) as server, pytest.raises(NoAnswerError, match="address, key or model"):
        client(server.url).ask(ASK, SCHEMA)
    assert len(server.bodies) == 1


def test_an_answer_off_the_schema_is_sent_back_with_what_is_wrong() -> None:
    with stub.serve([stub.completion('{"diagnosis": "", "action": "fly"}'), stub.completion(GOOD)]) as server:
        client(server.url).ask(ASK, SCHEMA)
    last = server.bodies[1]["messages"][-1]["content"]
    assert "'fly'" in last
    assert "allowed are reaction MS, stop" in last


def test_nobody_listens() -> None:
    with stub.serve([stub.hang]) as server:
        url = server.url
    with pytest.raises(NoAnswerError, match="connection"):
        client(url).ask(ASK, SCHEMA)


def test_thoughts_before_the_answer_are_left_out() -> None:
    talk = '<think>maybe {"diagnosis": "", "action": "stop"}?</think>' + GOOD
    assert ChatClient(Scripted([talk])).ask(ASK, SCHEMA).value["action"] == "reaction MS"


def test_the_key_is_sent_and_kept_nowhere(tmp_path: Path) -> None:
    with stub.serve([stub.completion(GOOD)]) as server:
        transport = connect(server.url, key="secret-key")
        path = tmp_path / "talk.jsonl"
        ChatClient(Transcript(transport, path)).ask(ASK, SCHEMA)
    assert "Authorization: Bearer secret-key" in server.heads[0]
    assert "secret-key" not in path.read_text()
    assert "secret-key" not in repr(transport)
    assert "127.0.0.1" not in path.read_text()


def test_a_transcript_replays_without_the_server(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with stub.serve([stub.hang, stub.completion('{"action": "stop"}'), stub.completion(GOOD)]) as server:
        first = ChatClient(Transcript(connect(server.url), path), seconds=0.3).ask(ASK, SCHEMA)
    assert first.slips == ("timeout", "off schema")
    for _ in range(2):
        assert ChatClient(connect(f"replay://{path}"), seconds=0.3).ask(ASK, SCHEMA) == first
    with pytest.raises(NoAnswerError, match="not recorded"):
        ChatClient(connect(f"replay://{path}")).ask([{"role": "user", "content": "another"}], SCHEMA)


def test_a_transcript_that_was_cut_off_keeps_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    ChatClient(Transcript(Scripted([GOOD]), path)).ask(ASK, SCHEMA)
    path.write_text(path.read_text() + '{"key": "ab')
    assert ChatClient(connect(f"replay://{path}")).ask(ASK, SCHEMA).value == json.loads(GOOD)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://192.168.0.7:8080/v1", "this machine"),
        ("https://api.example.org/v1", "remote=True"),
        ("http://localhost.example.org/v1", "this machine"),
        ("http://127.0.0.1.nip.io/v1", "this machine"),
        ("file:///etc/passwd", "expected http"),
        ("localhost:8080", "expected http"),
        ("http://user:word@localhost/v1", "without user"),
        ("http://localhost/v1?x=1", "without user"),
        ("replay:///nowhere.jsonl", "no transcript"),
    ],
)
def test_addresses_that_are_refused_before_anything_is_sent(url: str, what: str) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        connect(url)
    assert "word" not in str(caught.value)


def test_beyond_this_machine_only_by_https_and_only_when_told_so() -> None:
    assert connect("https://api.example.org/v1", remote=True)
    with pytest.raises(ValueError, match="use https"):
        connect("http://api.example.org/v1", remote=True)


def test_a_name_that_leads_elsewhere_is_noticed_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with stub.serve([stub.completion(GOOD)]) as server:
        monkeypatch.setattr("ecg_gym.llm.transport.is_loopback", lambda host: host == "localhost")
        transport = connect(server.url.replace("127.0.0.1", "localhost"))
        with pytest.raises(TransportError, match="another machine"):
            transport({"model": "m"}, 1.0)
    assert server.bodies == []


def test_bounds_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="positive times"):
        ChatClient(Scripted([]), seconds=0)
    with pytest.raises(ValueError, match="at least one"):
        choice_schema([])
    with pytest.raises(ValueError, match="keywords"):
        ChatClient(Scripted([GOOD])).ask(ASK, {"type": "object", "oneOf": []})
