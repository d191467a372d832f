"""Random conversations with tools, calls, results, and texts that are hard to write."""

import random
from collections.abc import Sequence
from typing import Any

PIECES = [*"abcXYZ_-.:,{}[]<>'\"\\ \n\té日😀", "<escape>", "<end_function_call>", "<start_of_turn>", "None", "{{ x }}"]
NAMES = ("a", "B", "c_1", "d e", "f.g", "A", "enum", "items", "ß", "type", "description")
NUMBERS = (0, 7, -9, 2**53 + 1, 10**20, 0.1, 3.0, -0.0, 1e16, 1e-05, 123456.789, 1.7976931348623157e308)


def called(*calls: tuple[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    made = [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    return {"role": "assistant", "tool_calls": made} | more


class Drawing:
    """Random conversations that all formats take."""

    def __init__(
        self,
        seed: int,
        pieces: Sequence[str] = PIECES,
        names: Sequence[str] = NAMES,
        numbers: Sequence[int | float] = NUMBERS,
    ) -> None:
        self.rng, self.pieces, self.names, self.numbers = random.Random(seed), pieces, names, numbers

    def text(self, most: int = 5) -> str:
        return "".join(self.rng.choice(self.pieces) for _ in range(self.rng.randint(0, most)))

    def name(self) -> str:
        return self.rng.choice(self.names)

    def value(self, depth: int = 2) -> Any:
        simple = [
            self.text, lambda: self.rng.choice(self.numbers), lambda: None, lambda: self.rng.random() < 0.5,
        ]  # fmt: skip
        if depth and self.rng.random() < 0.4:
            if self.rng.random() < 0.5:
                return [self.value(depth - 1) for _ in range(self.rng.randint(0, 3))]
            return self.object(depth - 1)
        return self.rng.choice(simple)()

    def object(self, depth: int = 2) -> dict[str, Any]:
        return {self.name(): self.value(depth) for _ in range(self.rng.randint(0, 3))}

    def schema(self, depth: int = 2) -> Any:
        kinds = ["string", "integer", "number", "boolean", "STRING", ["string", "null"]]
        schema: dict[str, Any] = {"type": self.rng.choice([*kinds, *(["object", "array"] if depth else [])])}
        if self.rng.random() < 0.7:
            schema["description"] = self.rng.choice([self.text(), None])
        if self.rng.random() < 0.2:
            schema["enum"] = [self.value(1) for _ in range(self.rng.randint(0, 3))]
        if schema["type"] == "object" and self.rng.random() < 0.8:
            schema |= {"properties": {self.name(): self.schema(depth - 1) for _ in range(2)}, "required": ["a", "x"]}
        if schema["type"] == "array" and self.rng.random() < 0.8:
            schema["items"] = self.schema(depth - 1) | {"default": self.value(1), "nullable": None}
        if self.rng.random() < 0.1:
            del schema["type"]
        return schema

    def tool(self) -> dict[str, Any]:
        tool: dict[str, Any] = {"name": self.name(), "description": self.text()}
        if self.rng.random() < 0.9:
            parameters: dict[str, Any] = {"type": "object"}
            if self.rng.random() < 0.9:
                parameters["properties"] = {self.name(): self.schema() for _ in range(self.rng.randint(0, 3))}
            if self.rng.random() < 0.5:
                parameters["required"] = list(parameters.get("properties", {}))
            if self.rng.random() < 0.1:
                del parameters["type"]
            tool["parameters"] = parameters
        return tool

    def content(self) -> Any:
        if self.rng.random() < 0.8:
            return self.text()
        return [{"type": "text", "text": self.text()} for _ in range(self.rng.randint(1, 3))]

    def results(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        named = [{"name": self.name(), "response": self.object()} for _ in calls]
        if self.rng.random() < 0.2:
            return [{"role": "tool", "content": named}]
        contents = [self.rng.choice([self.text() or "x", {"k": self.value()}, [self.object() for _ in range(2)], one])
                    for one in named]  # fmt: skip
        return [{"role": "tool", "name": call["function"]["name"], "content": content}
                for call, content in zip(calls, contents, strict=True)]  # fmt: skip

    def conversation(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if self.rng.random() < 0.5:
            messages.append({"role": self.rng.choice(["system", "developer"]), "content": self.content()})
        for _ in range(self.rng.randint(1, 3)):
            messages.append({"role": "user", "content": self.content()})
            for _ in range(self.rng.randint(0, 2)):
                made = [(self.name(), self.object()) for _ in range(self.rng.randint(1, 2))]
                calling = called(*made, **({"content": self.content()} if self.rng.random() < 0.5 else {}))
                messages += [calling, *self.results(calling["tool_calls"])]
            messages.append({"role": "assistant", "content": self.content()})
        if self.rng.random() < 0.2:
            messages = messages[: next(i for i in range(len(messages)) if messages[i]["role"] != "tool") + 1]
        return messages
