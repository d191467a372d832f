"""A request for an answer, as OpenAI's protocol has it, checked field by field.

https://platform.openai.com/docs/api-reference/chat/create. Whatever is wrong is an ApiError, whose `body` is the form
that OpenAI's own errors have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from minifc.errors import CallError, MinifcError
from minifc.serving.flattened import FINAL_ANSWER, unflattened, wants_final_answer
from minifc.text.calls import read_value

# What has no meaning here, and does no harm if it is not followed.
IGNORED = {
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "verbosity", "reasoning_effort", "stream_options",
}  # fmt: skip
# What is not done here, and the values at which that makes no difference.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},), "modalities": (["text"],),
    "functions": ([],), "function_call": (), "audio": (), "prediction": (), "web_search_options": (),
}  # fmt: skip
MOST_STOPS = 16
LONGEST_STOP = 1000  # characters
MOST_TOOLS = 512
MOST_LIKELIEST = 20
MESSAGE_FIELDS = {"refusal", "annotations", "audio", "function_call"}  # of an answer that is sent back


class ApiError(MinifcError):
    """A request that gets no answer."""

    def __init__(self, message: str, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def no_model(asked: str, model: str) -> ApiError:
    return ApiError(f"there is no model {asked!r} here; there is {model!r}", "model", 404, "model_not_found")


@dataclass(frozen=True)
class ChatRequest:
    """What is asked, and how it is to be answered."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)  # {"name", "description", "parameters"}
    strict_tools: frozenset[str] = frozenset()  # the names of those whose schemas must be followed in all
    calls: Literal["auto", "required", "none"] = "auto"
    named: str | None = None  # the only tool that may be called
    final_answer: bool = False  # whether an answer in words is to be the call of a tool
    parallel: bool = True
    schema: Any = None  # of the answer, if it is to be JSON
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    logprobs: int | None = None  # how many of the likeliest tokens to tell with each
    stream: bool = False
    usage_at_end: bool = False  # of a stream


def read_request(body: Any, model: str) -> ChatRequest:
    """Raises ApiError. model: the name of the one that answers here."""
    fields = _Fields(body)
    if (asked := fields.take("model", str, model)) != model:
        raise no_model(asked, model)
    messages = fields.take("messages", list, None)
    if not messages:
        raise ApiError("messages: a list of at least one message is needed", "messages")
    tools, strict_tools = _tools(fields.take("tools", list, []))
    calls, named = _tool_choice(fields.take("tool_choice", (str, dict), "auto"), tools)
    final_answer = calls == "required" and named is None and wants_final_answer(tools)
    if final_answer:
        calls, tools = "auto", [tool for tool in tools if tool["name"] != FINAL_ANSWER]
    likeliest = fields.number("top_logprobs", int, 0, 0, MOST_LIKELIEST)
    wants_logprobs = fields.take("logprobs", bool, False)
    if likeliest and not wants_logprobs:
        raise ApiError("top_logprobs: means something only with logprobs: true", "top_logprobs")
    limits = [fields.number(name, int, None, 1) for name in ("max_completion_tokens", "max_tokens")]
    options = fields.get("stream_options") or {}
    request = ChatRequest(
        messages=_messages(messages),
        tools=tools,
        strict_tools=strict_tools,
        calls=calls,
        named=named,
        final_answer=final_answer,
        parallel=fields.take("parallel_tool_calls", bool, True),
        schema=_response_schema(fields.take("response_format", dict, None)),
        max_tokens=next((limit for limit in limits if limit is not None), None),
        stop=_stop(fields.take("stop", (str, list), [])),
        temperature=fields.number("temperature", float, 0.0, 0, 2),
        top_p=fields.number("top_p", float, 1.0, 0, 1, above=True),
        top_k=fields.number("top_k", int, 0, 0),
        repetition_penalty=fields.number("repetition_penalty", float, 1.0, 0, 100, above=True),
        seed=fields.number("seed", int, None, -(2**63), 2**63 - 1),
        logprobs=likeliest if wants_logprobs else None,
        stream=fields.take("stream", bool, False),
        usage_at_end=isinstance(options, dict) and bool(options.get("include_usage")),
    )
    fields.finish()
    return request


class _Fields:
    """The fields of an object, of which each is looked at once; null is as if it were not there."""

    def __init__(self, body: Any) -> None:
        if not isinstance(body, dict):
            raise ApiError("the body is not a JSON object")
        self.left = {name: value for name, value in body.items() if value is not None}

    def get(self, name: str) -> Any:
        return self.left.get(name)

    def take(self, name: str, kind: Any, default: Any) -> Any:
        """The value of this name, which must be of this type."""
        value = self.left.pop(name, default)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if value is not default and not isinstance(value, kinds):
            words = {str: "a string", list: "a list", dict: "an object", bool: "true or false"}
            raise ApiError(f"{name}: must be {' or '.join(words[one] for one in kinds)}", name)
        return value

    def number(
        self, name: str, kind: type, default: Any, least: float, most: float = 2**31, above: bool = False
    ) -> Any:
        """A number between two, the lower of which it must not be if `above`."""
        if name not in self.left:
            return default
        value = self.left.pop(name)
        fits = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
        if not fits or not least <= value <= most or (above and value == least):
            what = "an integer" if kind is int else "a number"
            where = f"above {least}" if above else f"of at least {least}"
            upper = f" and at most {most}" if most < 2**31 else ""
            raise ApiError(f"{name}: must be {what} {where}{upper}", name)
        return value

    def finish(self) -> None:
        for name, value in self.left.items():
            if name in IGNORED or value in NEUTRAL.get(name, ()):
                continue
            if name in ("functions", "function_call"):
                raise ApiError(f"{name}: use tools and tool_choice", name)
            why = "is not done here; leave it out" if name in NEUTRAL else "is no field of a request"
            raise ApiError(f"{name}: {why}", name)


def _messages(given: list[Any]) -> list[dict[str, Any]]:
    messages = unflattened([_message(message, number) for number, message in enumerate(given)])
    called = False  # before a message
    for number, message in enumerate(messages):
        if message.get("role") != "tool":
            called = bool(message.get("tool_calls"))
        elif not called:
            raise ApiError(
                f"messages[{number}]: is a tool's, but no message with tool_calls comes before it", "messages"
            )
    return [_with_result(message) if message.get("role") == "tool" else message for message in messages]


def _with_result(message: dict[str, Any]) -> dict[str, Any]:
    """A result that spells an object or a list, as such: the model knows one spelling of JSON, clients many."""
    content = message.get("content")
    if not isinstance(content, str) or not content.lstrip().startswith(("{", "[")):
        return message
    try:
        return message | {"content": read_value(content)}
    except CallError:
        return message


def _message(message: Any, number: int) -> dict[str, Any]:
    where = f"messages[{number}]"
    if not isinstance(message, dict):
        raise ApiError(f"{where}: is no object with role and content", where)
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "refusal" or (isinstance(kind, str) and kind != "text"):
            raise ApiError(f"{where}: has a part of type {kind!r}; the model reads text alone", where)
        if kind != "text" or not isinstance(part.get("text"), str):
            raise ApiError(f'{where}: a part of its content is no {{"type": "text", "text": ...}}', where)
    kept = {name: value for name, value in message.items() if name not in MESSAGE_FIELDS or value}
    if unread := sorted(MESSAGE_FIELDS & kept.keys()):
        raise ApiError(f"{where}: {unread[0]} is not read here", where)
    return {name: value for name, value in kept.items() if value not in (None, [])}


def _tools(given: list[Any]) -> tuple[list[dict[str, Any]], frozenset[str]]:
    tools: list[dict[str, Any]] = []
    strict: set[str] = set()
    if len(given) > MOST_TOOLS:
        raise ApiError(f"tools: {len(given)} of them; at most {MOST_TOOLS} are taken", "tools")
    for number, tool in enumerate(given):
        where = f"tools[{number}]"
        function = (
            tool.get("function") if isinstance(tool, dict) and tool.get("type", "function") == "function" else None
        )
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            raise ApiError(f'{where}: is no {{"type": "function", "function": {{"name": ...}}}}', where)
        if not isinstance(function.get("parameters") or {}, Mapping):
            raise ApiError(f"{where}: its parameters are no JSON schema", where)
        if any(function["name"] == other["name"] for other in tools):
            raise ApiError(f"{where}: there are two tools called {function['name']}", where)
        if function.get("strict"):
            strict.add(function["name"])
        shown = {
            name: function[name] for name in ("name", "description", "parameters") if function.get(name) is not None
        }
        tools.append(shown)
    return tools, frozenset(strict)


def _tool_choice(
    choice: str | dict[str, Any], tools: list[dict[str, Any]]
) -> tuple[Literal["auto", "required", "none"], str | None]:
    """Whether a tool must be called, and which one."""
    names = [tool["name"] for tool in tools]
    if isinstance(choice, dict):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if choice.get("type") != "function" or name not in names:
            there = ", ".join(names) or "none"
            raise ApiError(f"tool_choice: there is no tool {name!r}; there are: {there}", "tool_choice")
        return "required", name
    if choice not in ("auto", "required", "none"):
        raise ApiError(
            'tool_choice: must be auto, required, none, or {"type": "function", "function": {"name": ...}}',
            "tool_choice",
        )
    if choice == "required" and not tools:
        raise ApiError("tool_choice: required, but there are no tools", "tool_choice")
    return choice, None  # type: ignore[return-value]


def _response_schema(form: dict[str, Any] | None) -> Any:
    """The schema of an answer in JSON; None for one in words."""
    kind = form.get("type") if form else "text"
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    inner = form.get("json_schema") if form else None
    if kind != "json_schema" or not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict):
        raise ApiError(
            'response_format: must be {"type": "text"}, {"type": "json_object"} or '
            '{"type": "json_schema", "json_schema": {"schema": {...}}}',
            "response_format",
        )
    return inner["schema"]


def _stop(given: str | list[Any]) -> tuple[str, ...]:
    stops = [given] if isinstance(given, str) else given
    if len(stops) > MOST_STOPS:
        raise ApiError(f"stop: {len(stops)} sequences; at most {MOST_STOPS} are taken", "stop")
    if not all(isinstance(stop, str) and 0 < len(stop) <= LONGEST_STOP for stop in stops):
        raise ApiError(f"stop: must be strings of 1 to {LONGEST_STOP} characters", "stop")
    return tuple(stops)
