"""Agents that people run, against a real server: their tasks come to an end, with the calls that they need."""

import asyncio
from typing import Any

import openai
import pytest

from minifc.calling import tiny_tools
from minifc.data import toy

smolagents = pytest.importorskip("smolagents")
pydantic_ai = pytest.importorskip("pydantic_ai")
from pydantic_ai.models.openai import OpenAIChatModel  # noqa: E402
from pydantic_ai.providers.openai import OpenAIProvider  # noqa: E402

NAME = "tiny-caller"


def a_tool(schema: dict[str, Any], answer: Any, calls: list[Any]) -> Any:
    """A tool of smolagents by a schema of minifc's."""
    properties = schema["parameters"]["properties"]

    class Made(smolagents.Tool):
        name, description, output_type = schema["name"], schema["description"], "object"
        inputs = {name: {"type": one["type"], "description": name} for name, one in properties.items()}  # noqa: RUF012
        skip_forward_signature_validation = True

        def forward(self, **given: Any) -> Any:
            calls.append((schema["name"], given))
            return answer

    return Made()


def ask_smolagents(server: Any, tools: list[dict[str, Any]], question: str, result: Any) -> tuple[Any, list[Any]]:
    """The answer, and the calls on the way. The system message is short: the embedded model reads 2,048 tokens."""
    calls: list[Any] = []
    model = smolagents.OpenAIModel(NAME, api_base=f"{server.url}/v1", api_key="none")
    made = [a_tool(tool, result, calls) for tool in tools]
    agent = smolagents.ToolCallingAgent(made, model, max_steps=4, verbosity_level=0)
    agent.prompt_templates["system_prompt"] = "Be brief."
    answer = agent.run(question)
    model.client.close()
    return answer, calls


def ask_pydantic_ai(server: Any, tools: list[dict[str, Any]], question: str, result: Any) -> tuple[Any, list[Any]]:
    calls: list[Any] = []

    def made(tool: dict[str, Any]) -> Any:
        def function(**given: Any) -> Any:
            calls.append((tool["name"], given))
            return result

        return pydantic_ai.Tool.from_schema(function, tool["name"], tool["description"], tool["parameters"])

    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            model = OpenAIChatModel(NAME, provider=OpenAIProvider(openai_client=client))
            return (await pydantic_ai.Agent(model, tools=list(map(made, tools))).run(question)).output

    return asyncio.run(ask()), calls


# smolagents says "required", has `final_answer` for words, and writes its history into texts.
AGENTS = [ask_smolagents, ask_pydantic_ai]


@pytest.mark.parametrize("ask", AGENTS)
def test_a_task(server: Any, ask: Any) -> None:
    answer, calls = ask(server, [tool.schema for tool in tiny_tools.TOOLS], tiny_tools.QUESTION, {"age": 68})
    assert answer == "The age is 68."
    assert calls == [("measure_age", {"year": 1958})]


@pytest.mark.slow
def test_a_hundred_tasks_end(server: Any) -> None:
    """Of the embedded model's world, half by each agent; nine of ten are done with just the right calls."""
    right = 0
    for number, case in enumerate(toy.held_out_cases(100, seed=9)):
        request, fits = case.requests[0], case.fits[0]
        answer, calls = AGENTS[number % 2](server, case.tools, request.text, case.results[0] if fits else {})
        assert isinstance(answer, str)
        assert answer
        right += calls == ([(request.task.name, request.details)] if fits else [])
    assert right >= 90
