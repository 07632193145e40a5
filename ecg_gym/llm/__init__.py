"""A chat model as a source of choices: an answer is JSON bound to a schema, checked here, and never executed."""

from ecg_gym.llm.client import Answer, ChatClient, NoAnswerError
from ecg_gym.llm.endpoint import connect
from ecg_gym.llm.facts import render_facts
from ecg_gym.llm.schema import choice_schema, violations
from ecg_gym.llm.transcript import Transcript
from ecg_gym.llm.transport import Reply, Scripted, Transport, TransportError

__all__ = [
    "Answer",
    "ChatClient",
    "NoAnswerError",
    "Reply",
    "Scripted",
    "Transcript",
    "Transport",
    "TransportError",
    "choice_schema",
    "connect",
    "render_facts",
    "violations",
]
