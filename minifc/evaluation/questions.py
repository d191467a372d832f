"""What a model is asked: requests of the toy world, the model turns of conversations, entries of BFCL."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from minifc.calling.tools import Tool
from minifc.data import Conversation, toy
from minifc.errors import CallError, DataError, TemplateError
from minifc.evaluation.bfcl import CATEGORIES, Entry, find_error, read_bfcl
from minifc.evaluation.judging import Rule, exactly
from minifc.text.calls import Call, read_tools, spelled_calls, write_json
from minifc.text.messages import Message, is_assistant, message_calls

TOY_WORLD = "embedded world"
SHOWN = 3  # answers that people see where nothing can be judged
Part = Literal["all", "first", "second"]  # the whole, or a half
Demonstration = tuple[Sequence[Message], Sequence[dict[str, Any]]]  # a user's and a model's turn, and their tools


@dataclass(frozen=True)
class Question:
    """A conversation up to a model's turn, and what this turn should call."""

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]]
    expected: tuple[str, ...] | None  # the names of the tools; () where no tool fits, None where any is right
    rule: Rule | None  # None: the answer is shown and not judged
    right: str = ""  # for people
    verbatim: bool = False  # the messages' text holds the tags
    listed: bool = False  # and the tools as well


@dataclass(frozen=True)
class QuestionSet:
    """Questions that are scored together, and conversations whose model turns' likelihood is measured beside."""

    name: str
    questions: Sequence[Question]
    conversations: Sequence[Conversation] = ()

    def first(self, count: int | None) -> "QuestionSet":
        """Only the first `count` questions; all of them for None."""
        return replace(self, questions=self.questions[:count])

    def part(self, which: Part) -> "QuestionSet":
        """One half of the questions, or all of them."""
        middle = (len(self.questions) + 1) // 2
        halves = {"all": self.questions, "first": self.questions[:middle], "second": self.questions[middle:]}
        return replace(self, questions=halves[which])


def question_of(
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]],
    calls: Sequence[Call],
    verbatim: bool = False,
    listed: bool = False,
) -> Question:
    """The question whose answer is exactly these calls."""
    right = "\n".join(write_json(asdict(call)) for call in calls) or "no call"
    return Question(messages, tools, tuple(call.name for call in calls), exactly(calls), right, verbatim, listed)


def tool_questions(tools: Sequence[Tool]) -> list[Question]:
    """The examples of tools as questions, each with all of the tools."""
    schemas = [tool.schema for tool in tools]
    return [
        question_of([{"role": "user", "content": example.request}], schemas, example.calls)
        for tool in tools
        for example in tool.examples
    ]


# --- the toy world -----------------------------------------------------------------------------------------------


def toy_question(case: toy.Case) -> Question:
    """The first request of a case."""
    request = case.requests[0]
    calls = [Call(request.task.name, request.details)] if case.fits[0] else []
    return question_of(case.messages()[:1], case.tools, calls)


def toy_questions(count: int, seed: int = 0, sentences: toy.Sentences = "known") -> QuestionSet:
    """Requests in held-out words; the first half has its tool, for the second none fits."""
    return QuestionSet(TOY_WORLD, [toy_question(case) for case in toy.held_out_cases(count, seed, sentences)])


def toy_demonstrations(seed: int) -> list[Demonstration]:
    """Three solved cases of the training side: two that call and one that declines."""
    cases = [case for case in toy.training_cases(200, seed) if len(case.requests) == 1 and len(case.tools) == 2]
    chosen = [case for case in cases if case.fits[0]][:2] + [case for case in cases if not case.fits[0]][:1]
    random.Random(seed).shuffle(chosen)
    return [(case.messages()[:2], case.tools) for case in chosen]


# --- anybody's data ----------------------------------------------------------------------------------------------


def data_questions(conversations: Sequence[Conversation]) -> list[Question]:
    """A question for each model turn of conversations that have tools. Raises DataError naming a row."""
    questions = []
    for conversation in conversations:
        try:
            tools = {tool["name"]: tool for tool in (*conversation.tools, *conversation.listed)}
            listed = conversation.verbatim and not conversation.tools
            for number, message in enumerate(conversation.messages):
                content = str(message.get("content") or "")
                if not is_assistant(message):
                    tools |= {tool["name"]: tool for tool in read_tools(content)} if conversation.verbatim else {}
                elif tools and number not in conversation.unlearned:
                    calls = spelled_calls(content) if conversation.verbatim else message_calls(message)
                    before = conversation.messages[:number]
                    questions.append(question_of(before, list(tools.values()), calls, conversation.verbatim, listed))
        except (CallError, TemplateError) as error:
            raise DataError(f"{conversation.source}: {error}") from None
    return questions


def held_out_questions(name: str, conversations: Sequence[Conversation]) -> QuestionSet:
    """Questions about conversations that were kept out of training.

    Where no conversation has tools, the first few are continued, for people to look at. Raises DataError naming a row.
    """
    questions = data_questions(conversations) or [_open_question(one) for one in conversations[:SHOWN]]
    return QuestionSet(name, questions, conversations)


def _open_question(conversation: Conversation) -> Question:
    """The conversation up to its first model turn; whatever is answered."""
    first = next(i for i, m in enumerate(conversation.messages) if is_assistant(m))
    return Question(conversation.messages[:first], conversation.tools, None, None, verbatim=conversation.verbatim)


# --- the Berkeley Function Calling Leaderboard ---------------------------------------------------------------------


def bfcl_question(entry: Entry) -> Question:
    """An entry of the leaderboard, judged by its rules."""
    names = tuple(name for answer in entry.answers or () for name in answer)
    expected = None if entry.category == "live_relevance" else names
    right = write_json(entry.answers) if entry.answers else "a call" if expected is None else "no call"
    return Question(entry.messages, entry.tools, expected, lambda calls: find_error(calls, entry), right)


def bfcl_questions(folder: Path, categories: Sequence[str] = CATEGORIES) -> list[QuestionSet]:
    """A set for each category. Raises DataError naming the file that is missing or not as expected."""
    return [QuestionSet(one, [bfcl_question(entry) for entry in read_bfcl(folder, [one])]) for one in categories]
