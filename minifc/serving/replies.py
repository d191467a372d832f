"""What the model writes, as OpenAI's protocol tells it: content, reasoning and calls, whole or piece by piece."""

import json
import re
import secrets
from collections.abc import Sequence
from typing import Any

from minifc.gemma.generate import Choice
from minifc.text.calls import write_json
from minifc.text.dialects import DELIMITER, Part, dialect_of
from minifc.text.template import Format
from minifc.text.tokenizer import Tokenizer
from minifc.text.turns import turn_marks

_CALL = re.compile(r'\n\{"name": ("(?:[^"\\]|\\.)*"), "arguments": ')  # as the grammar writes its beginning

Delta = dict[str, Any]


class ReplyReader:
    """Reads one turn as it comes. `message` is what was told of it."""

    def __init__(
        self, tokenizer: Tokenizer, format: Format, stop: Sequence[str] = (), final_answer: str | None = None
    ) -> None:
        """stop: texts before which the content ends. final_answer: the tool of whose call the content is to be the
        argument `answer`, if the turn has no other call."""
        self.tokenizer, self.dialect, self.stop = tokenizer, dialect_of(format, tokenizer), stop
        self.final_answer = final_answer
        self.marks = turn_marks(tokenizer, self.dialect)
        self.part: Part = "text"
        self.stopped = False  # by one of `stop`
        self.reasoning_tokens = 0
        self._run: list[int] = []  # ids of the part that are not told yet, of a call all of its ids
        self._said = {"content": "", "reasoning_content": ""}
        self._held = ""  # what may be the beginning of a stop, or the space before what follows
        self._calls: list[dict[str, str]] = []
        self._open = False  # whether the last of the calls is the one that is being written
        self._sent = 0  # characters of its arguments

    @property
    def message(self) -> dict[str, Any]:
        """The assistant's message, as a whole."""
        reasoning = {"reasoning_content": said} if (said := self._said["reasoning_content"]) else {}
        calls = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in self._calls
        ]
        content = self._said.get("content") or (None if calls else "")
        return {"role": "assistant", "content": content, **reasoning} | ({"tool_calls": calls} if calls else {})

    @property
    def calls(self) -> int:
        return len(self._calls)

    def read(self, choices: Sequence[Choice]) -> list[Delta]:
        """What more of them there is to tell."""
        deltas: list[Delta] = []
        for choice in choices:
            if self.stopped:
                break
            self.reasoning_tokens += self.part == "thought"
            following = self.part
            if choice.id in self.marks:
                following = self.dialect.part_after(self.part, self.marks[choice.id])
            if following == self.part:
                self._run.append(choice.id)
                deltas += self._tell()
            else:
                deltas += self._end_part()
                self.part = following
        return deltas

    def finish(self) -> list[Delta]:
        """What was held back, at the end of the turn."""
        deltas: list[Delta] = []
        if not self.stopped and self.part != "call":  # a call that broke off is told as far as it goes
            deltas = self._end_part() + self._say("content", self._held.rstrip())
        self._held = ""
        if self.final_answer and not self._calls:
            deltas.append(self._whole_call(self.final_answer, {"answer": self._said.pop("content")}))
        return deltas

    def _tell(self) -> list[Delta]:
        if self.part == "call":
            return self._tell_call(ended=False)
        text = self.tokenizer.decode(self._run)
        if text.endswith("\ufffd"):  # perhaps a part of a character
            return []
        self._run = []
        return self._add(text)

    def _end_part(self) -> list[Delta]:
        """Tell the rest of a part."""
        deltas = self._tell_call(ended=True) if self.part == "call" else self._add(self.tokenizer.decode(self._run))
        self._run = []
        return deltas

    def _add(self, text: str) -> list[Delta]:
        """Tell text of the part, as far as it is certain that no stop is in it."""
        if self.part == "thought":
            return self._say("reasoning_content", text)
        text = self._held + text
        places = [place for stop in self.stop if (place := text.find(stop)) >= 0]
        if places:
            self.stopped, self._held = True, ""
            return self._say("content", text[: min(places)].rstrip())
        begun = max((_overlap(text, stop) for stop in self.stop), default=0)
        certain = text[: len(text) - begun].rstrip()
        self._held = text[len(certain) :]
        if not self._said["content"]:
            certain = certain.lstrip()
        return self._say("content", certain)

    def _say(self, name: str, text: str) -> list[Delta]:
        if not text:
            return []
        self._said[name] += text
        return [] if self.final_answer and name == "content" else [{name: text}]

    def _tell_call(self, ended: bool) -> list[Delta]:
        """The name of the call that is being written once it is known, and more of its arguments."""
        text = self._call_text().rstrip("\ufffd")
        begun = _CALL.match(text)
        if begun is None:
            return self._tell_read(text) if ended else []
        deltas: list[Delta] = []
        if not self._open:
            deltas.append(self._begin_call(json.loads(begun[1])))
        closing = self.dialect.syntax.closing
        arguments = text[begun.end() :]
        certain = arguments.removesuffix(closing) if ended else arguments[: max(0, len(arguments) - len(closing))]
        if more := certain[self._sent :]:
            self._calls[-1]["arguments"] += more
            self._sent += len(more)
            deltas.append({"tool_calls": [{"index": len(self._calls) - 1, "function": {"arguments": more}}]})
        if ended:
            self._sent, self._open = 0, False
        return deltas

    def _begin_call(self, name: str) -> Delta:
        self._held, self._open = "", True
        self._calls.append({"id": f"call_{secrets.token_hex(12)}", "name": name, "arguments": ""})
        opened = {"id": self._calls[-1]["id"], "type": "function", "function": {"name": name, "arguments": ""}}
        return {"tool_calls": [{"index": len(self._calls) - 1, **opened}]}

    def _tell_read(self, text: str) -> list[Delta]:
        """A whole call of a dialect whose arguments are not JSON."""
        call = self.dialect.read(text)
        return [self._whole_call(call.name, call.arguments)]

    def _whole_call(self, name: str, arguments: dict[str, Any]) -> Delta:
        opened = self._begin_call(name)
        self._open = False
        self._calls[-1]["arguments"] = written = write_json(arguments)
        opened["tool_calls"][0]["function"]["arguments"] = written
        return opened

    def _call_text(self) -> str:
        if self.dialect.delimiter is None:
            return self.tokenizer.decode(self._run)
        delimiter = self.tokenizer.control[self.dialect.delimiter]
        pieces: list[list[int]] = [[]]
        for id_ in self._run:
            if id_ == delimiter:
                pieces.append([])
            else:
                pieces[-1].append(id_)
        return DELIMITER.join(map(self.tokenizer.decode, pieces))


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of a text that a stop begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


def logprobs_of(choices: Sequence[Choice], tokenizer: Tokenizer, likeliest: int) -> list[dict[str, Any]]:
    """As `logprobs.content` has them, and whether a token was forced: then there was nothing else to choose.

    likeliest: how many of the likeliest tokens to tell with each.
    """
    names = {id_: name for name, id_ in tokenizer.control.items()}

    def token(id_: int) -> dict[str, Any]:
        text = names.get(id_) or tokenizer.decode([id_])
        return {"token": text, "bytes": list(text.encode(errors="replace"))}

    return [
        {
            **token(choice.id),
            "logprob": choice.logprob,
            "top_logprobs": [token(id_) | {"logprob": logprob} for id_, logprob in choice.likeliest[:likeliest]],
            "forced": choice.forced,
        }
        for choice in choices
    ]
