"""python -m minifc.chat: talk to a model that uses tools.

What it thinks is shown dimmed, calls and their results are marked. `--tools` brings your own: a Python
file with functions under @minifc.tool. `/quit` or Ctrl-D ends, `/new` begins anew.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from minifc.calling import examples
from minifc.calling.agent import Agent, Event
from minifc.calling.tools import Tool
from minifc.cli import Parser, run_command
from minifc.errors import MinifcError, OptionError
from minifc.gemma.checkpoint import load_model
from minifc.gemma.generate import Sampling
from minifc.hub import TINY, TINY_ADAPTER, find_model
from minifc.text.tokenizer import load_tokenizer
from minifc.tuning.adapter import load_adapter

DIM, BLUE, GREEN, RED, PLAIN = "\033[2m", "\033[34m", "\033[32m", "\033[31m", "\033[0m"
COLOURS = {"thought": DIM, "call": BLUE, "result": GREEN, "stopped": RED, "text": ""}
MARKS = {"call": "→ ", "result": "← ", "stopped": "! "}


Show = Callable[[Event], None]


def main(argv: Sequence[str]) -> None:
    parser = Parser("chat", __doc__ or "", "python -m minifc.chat --tools my_tools.py")
    parser.add_argument("--model", default=TINY, help="folder or hub id of the model (%(default)s)")
    parser.add_argument(
        "--adapter", default=TINY_ADAPTER, help="folder or hub id of its adapter, or 'none' (%(default)s)"
    )
    parser.add_argument("--format", choices=("gemma", "course"), default="gemma", help="whose turns (%(default)s)")
    parser.add_argument("--tools", type=Path, metavar="FILE", help="a Python file with tools (a few examples)")
    parser.add_argument("--read", type=Path, metavar="FOLDER", help="let it read files below this folder")
    parser.add_argument("--free", action="store_true", help="do not hold calls to the tools' schemas")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token (%(default)s)")
    parser.add_argument("--seed", type=int, help="of what is drawn above temperature 0")
    parser.add_argument("--once", metavar="QUESTION", help="ask one question and end")
    parser.add_argument("--json", action="store_true", help="print events as JSON, one a line")
    args = parser.parse(argv)

    tools = load_tools(args.tools) if args.tools else list(examples.TOOLS)
    if args.read:
        if not args.read.is_dir():
            raise OptionError(f"--read {args.read}: no such folder")
        tools.append(examples.file_reader(args.read))
    folder = find_model(args.model).path
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    if args.adapter != "none":
        load_adapter(model, tokenizer, find_model(args.adapter).path)
    sampling = Sampling(temperature=args.temperature, seed=args.seed)
    agent = Agent(model, tokenizer, tools, args.format, constrained=not args.free, sampling=sampling)
    show = print_json if args.json else Printer(colourful())
    if args.once is not None:
        answer(agent, args.once, show)
        return
    if not args.json:
        print(f"{args.model} with {', '.join(tool.name for tool in tools)}; /new begins anew, /quit ends")
    converse(agent, show)


def converse(agent: Agent, show: Show) -> None:
    """Ask and answer until the input ends."""
    if sys.stdin.isatty():
        import readline  # noqa: F401  (gives input() a history)
    while True:
        try:
            question = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if question == "/quit":
            return
        if question == "/new":
            agent.messages.clear()
        elif question:
            answer(agent, question, show)


def answer(agent: Agent, question: str, show: Show) -> None:
    """Show what happens until the model has answered. Ctrl-C stops the answer, not the conversation."""
    try:
        for event in agent.ask(question):
            show(event)
    except KeyboardInterrupt:
        show(Event("stopped", "interrupted"))
    show(Event("text", "\n"))


class Printer:
    """Events for a person: pieces of text as they come, calls and results on lines of their own."""

    def __init__(self, colour: bool) -> None:
        self.colour, self.column = colour, 0

    def __call__(self, event: Event) -> None:
        if event.kind in MARKS and self.column:
            self.write("\n")
        if event.text == "\n" and not self.column:
            return
        text = MARKS.get(event.kind, "") + visible(event.text) + ("\n" if event.kind in MARKS else "")
        style = COLOURS[event.kind] if self.colour else ""
        self.write(f"{style}{text}{PLAIN}" if style else text)

    def write(self, text: str) -> None:
        print(text, end="", flush=True)
        self.column = 0 if text.removesuffix(PLAIN).endswith("\n") else 1


def print_json(event: Event) -> None:
    record = {"kind": event.kind, "text": event.text} | ({"call": asdict(event.call)} if event.call else {})
    if event.text != "\n":
        print(json.dumps(record, ensure_ascii=False), flush=True)


def visible(text: str) -> str:
    """Without what a terminal would obey: a model, or a tool, may write escape sequences."""
    return "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def colourful() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def load_tools(path: Path) -> list[Tool]:
    """The tools in a Python file, which is run. Raises OptionError if there are none."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise OptionError(f"--tools {path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except MinifcError:
        raise
    except Exception as error:
        raise OptionError(f"--tools {path}: {type(error).__name__}: {error}") from None
    tools = [value for value in vars(module).values() if isinstance(value, Tool)]
    if not tools:
        raise OptionError(f"--tools {path}: no function in it has @minifc.tool")
    return tools


if __name__ == "__main__":
    run_command(main)
