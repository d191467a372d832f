"""From a request to the tokens that the engine is to write, and from these to an answer."""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from minifc.calling.confidence import LIKELIEST, confidence
from minifc.calling.grammar import Grammar, check_tools
from minifc.calling.guide import Guide
from minifc.calling.reply import Reply, json_guide
from minifc.errors import CallError, MinifcError, SchemaError, TemplateError
from minifc.gemma.generate import Choice, Sampling
from minifc.loading import Loaded
from minifc.serving.engine import Engine, Full, GuardedRow, Job, News
from minifc.serving.flattened import FINAL_ANSWER
from minifc.serving.replies import Delta, ReplyReader, logprobs_of
from minifc.serving.requests import ApiError, ChatRequest
from minifc.text.dialects import dialect_of
from minifc.text.template import render, stop_ids

KEPT = 64  # sets of tools, and schemas of answers


class Answering:
    """Answers requests with one model. `model` is the name that it has for clients."""

    def __init__(
        self, loaded: Loaded, engine: Engine, model: str, max_tokens: int, log: Callable[[str], None] = print
    ) -> None:
        """max_tokens: the limit of an answer whose request names none. log: where notes go."""
        self.loaded, self.engine, self.model, self.max_tokens, self.log = loaded, engine, model, max_tokens, log
        self._grammar: Callable[[str, frozenset[str]], Grammar] = lru_cache(KEPT)(self._make_grammar)
        self._guide: Callable[[str], Guide] = lru_cache(KEPT)(self._make_guide)

    def row(self, request: ChatRequest) -> GuardedRow:
        """What the engine is to write. Raises ApiError. It may take a while: schemas are compiled here."""
        loaded = self.loaded
        try:
            prompt = render(
                request.messages, loaded.tokenizer, request.tools, loaded.format, add_generation_prompt=True
            ).ids
        except (TemplateError, CallError) as error:
            raise ApiError(f"messages: {error}", "messages") from None
        context = loaded.model.config.max_position_embeddings
        if len(prompt) >= context:
            raise ApiError(
                f"messages: {len(prompt)} tokens, tools included, and the model reads {context}",
                "messages", code="context_length_exceeded",
            )  # fmt: skip
        limit = min(request.max_tokens or self.max_tokens, context - len(prompt))
        sampling = Sampling(
            request.temperature, request.top_k, request.top_p, request.repetition_penalty,
            None if request.seed is None else request.seed % 2**63,
        )  # fmt: skip
        stops = stop_ids(loaded.tokenizer, loaded.format)
        likeliest = None if request.logprobs is None else LIKELIEST
        return GuardedRow(prompt, limit, stops, sampling, self._reply(request), likeliest)

    def _reply(self, request: ChatRequest) -> Reply:
        tools = [tool for tool in request.tools if request.named in (None, tool["name"])]
        grammar = None
        if tools and request.calls != "none":
            grammar = self._grammar(json.dumps(tools), request.strict_tools & {tool["name"] for tool in tools}).fresh()
        guide = None if request.schema is None else self._guide(json.dumps(request.schema))
        tokenizer, format = self.loaded.tokenizer, self.loaded.format
        return Reply(tokenizer, format, grammar, request.calls, request.parallel, guide)

    def _make_grammar(self, tools: str, strict: frozenset[str]) -> Grammar:
        tokenizer, format, described = self.loaded.tokenizer, self.loaded.format, json.loads(tools)
        try:
            if strict:
                check_tools([tool for tool in described if tool["name"] in strict], dialect_of(format, tokenizer))
            grammar = Grammar(described, tokenizer, format, strict=False)
        except SchemaError as error:
            raise ApiError(f"tools: {error}", "tools") from None
        except MinifcError as error:  # the model has no tokens for calls
            raise ApiError(f"tools: this model cannot call: {error}", "tools") from None
        for note in grammar.notes:
            self.log(f"note: {note}")
        return grammar

    def _make_guide(self, schema: str) -> Guide:
        notes: list[str] = []
        try:
            guide = json_guide(json.loads(schema), self.loaded.tokenizer, "response_format", notes)
        except SchemaError as error:
            raise ApiError(str(error), "response_format") from None
        for note in notes:
            self.log(f"note: {note}")
        return guide

    def begin(self, request: ChatRequest, row: GuardedRow) -> "Answer":
        """Hand a row to the engine. Raises ApiError if too many wait."""
        answer = Answer(self, request, row)
        try:
            self.engine.submit(answer.job)
        except Full as error:
            raise ApiError(str(error), status=429, code="queue_full") from None
        return answer


class Answer:
    """One answer, which is written in the engine's thread and told in the server's."""

    def __init__(self, answering: Answering, request: ChatRequest, row: GuardedRow) -> None:
        self.answering, self.request, self.row = answering, request, row
        final_answer = FINAL_ANSWER if request.final_answer else None
        self.reader = ReplyReader(answering.loaded.tokenizer, answering.loaded.format, request.stop, final_answer)
        self.id, self.created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
        self.cached, self.end, self.choices = 0, "", list[Choice]()
        news, loop = asyncio.Queue[News](), asyncio.get_running_loop()
        self._news = news

        def tell(one: News) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended, and nobody waits
                loop.call_soon_threadsafe(news.put_nowait, one)

        self.job = Job(row, tell)

    async def pieces(self) -> AsyncIterator[tuple[list[Delta], list[Choice]]]:
        """What is told, and the tokens that were written meanwhile, until the answer ends. Raises ApiError."""
        try:
            while not self.end:
                news = await self._news.get()
                if news.error:
                    raise ApiError(f"the answer broke off: {news.error}", status=500)
                self.cached = news.cached or self.cached
                new = list(news.choices)
                self.choices += new
                deltas = self.reader.read(new)
                if news.end or self.reader.stopped:
                    deltas += self.reader.finish()
                    self.end = self._reason("stop" if self.reader.stopped else news.end or "stop")
                if deltas or new:
                    yield deltas, new
        finally:
            self.answering.engine.cancel(self.job)  # whoever waited may be gone

    def _reason(self, end: str) -> str:
        return "tool_calls" if end == "stop" and self.reader.calls else end

    def logprobs(self, choices: list[Choice]) -> dict[str, Any] | None:
        if self.request.logprobs is None:
            return None
        content = logprobs_of(choices, self.answering.loaded.tokenizer, self.request.logprobs)
        return {"content": content, "refusal": None}

    @property
    def confidence(self) -> dict[str, Any]:
        """How sure the model is of the turn, if logprobs are asked for."""
        if self.request.logprobs is None:
            return {}
        loaded = self.answering.loaded
        return {"confidence": asdict(confidence(self.choices, loaded.tokenizer, loaded.format))}

    @property
    def usage(self) -> dict[str, Any]:
        read, written = len(self.row.prompt), len(self.choices)
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reader.reasoning_tokens},
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.answering.model}

    async def whole(self) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        async for _ in self.pieces():
            pass
        choice = {
            "index": 0,
            "message": self.reader.message | {"refusal": None},
            "logprobs": self.logprobs(self.choices),
            "finish_reason": self.end,
            **self.confidence,
        }
        return self._head("chat.completion") | {"choices": [choice], "usage": self.usage}

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """The bodies of a streamed answer."""
        head = self._head("chat.completion.chunk")

        def chunk(delta: Delta, reason: str | None = None, choices: list[Choice] | None = None) -> dict[str, Any]:
            logprobs = self.logprobs(choices) if choices else None
            return head | {"choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}]}

        yield chunk({"role": "assistant", "content": ""})
        async for deltas, new in self.pieces():
            if not deltas and self.request.logprobs is not None:
                deltas = [{}]  # nothing to tell yet but the tokens
            for number, delta in enumerate(deltas):
                yield chunk(delta, choices=new if number == 0 else None)
        last = chunk({}, self.end)
        last["choices"][0] |= self.confidence
        yield last
        if self.request.usage_at_end:
            yield head | {"choices": [], "usage": self.usage}
