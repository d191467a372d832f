"""python -m minifc.chat: talk to a model that uses tools.

What it thinks is shown dimmed, calls and their results are marked. `--tools` brings your own: a Python
file with functions under @minifc.tool. `/quit` or Ctrl-D ends, `/new` begins anew.
"""

import importlib
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from minifc.asked import add_model_options, load_asked
from minifc.calling import sample_tools
from minifc.calling.agent import Agent, Event
from minifc.calling.tools import Tool
from minifc.cli import Parser, run_command, seed_number, visible
from minifc.errors import MinifcError, OptionError, first_line
from minifc.gemma.generate import Sampling
from minifc.tuning.adapter import load_adapter

DIM, BLUE, GREEN, RED, PLAIN = "\033[2m", "\033[34m", "\033[32m", "\033[31m", "\033[0m"
COLOURS = {"thought": DIM, "call": BLUE, "result": GREEN, "stopped": RED, "text": ""}
MARKS = {"call": "→ ", "result": "← ", "stopped": "! "}


Show = Callable[[Event], None]


def main(argv: Sequence[str]) -> None:
    parser = Parser("chat", __doc__ or "", "python -m minifc.chat --tools my_tools.py")
    add_model_options(parser)
    parser.add_argument("--tools", type=Path, metavar="FILE", help="a Python file with tools (a few examples)")
    parser.add_argument("--read", type=Path, metavar="FOLDER", help="let it read files below this folder")
    parser.add_argument("--free", action="store_true", help="do not hold calls to the tools' schemas")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token (%(default)s)")
    parser.add_argument("--seed", type=seed_number, help="of what is drawn above temperature 0")
    parser.add_argument("--once", metavar="QUESTION", help="ask one question and end")
    parser.add_argument("--json", action="store_true", help="print events as JSON, one a line")
    args = parser.parse(argv)

    tools = load_tools(args.tools) if args.tools else list(sample_tools.TOOLS)
    if args.read:
        if not args.read.is_dir():
            raise OptionError(f"--read {args.read}: no such folder")
        tools.append(sample_tools.file_reader(args.read))
    asked = load_asked(args)
    if asked.adapter:
        load_adapter(asked.model, asked.tokenizer, asked.adapter)
    sampling = Sampling(temperature=args.temperature, seed=args.seed)
    agent = Agent(asked.model, asked.tokenizer, tools, asked.format, constrained=not args.free, sampling=sampling)
    for stream in (sys.stdin, sys.stdout):  # what is no text, or none of this terminal's, ends no conversation
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    show: Show = print_json if args.json else Printer(colourful())
    if args.once is not None:
        if not answer(agent, args.once, show):
            raise MinifcError("--once: there is no answer")
        return
    tools_named = ", ".join(tool.name for tool in tools)
    print(f"{args.model} with {tools_named}; /new begins anew, /quit ends", file=sys.stderr)
    converse(agent, show)


def converse(agent: Agent, show: Show) -> None:
    """Ask and answer until the input ends. Ctrl-C stops the answer, not the conversation."""
    person = sys.stdin.isatty() and sys.stdout.isatty()
    if person:
        import readline  # noqa: F401  (gives input() a history)
    while True:
        try:
            question = input("> " if person else "").strip()
        except EOFError:
            return
        if question == "/quit":
            return
        if question == "/new":
            agent.messages.clear()
        elif question:
            try:
                answer(agent, question, show)
            except KeyboardInterrupt:
                show(Event("stopped", "interrupted; the question is forgotten"))


def answer(agent: Agent, question: str, show: Show) -> bool:
    """Show what happens until the model has answered; False if it has not."""
    text = question.encode(errors="replace").decode()  # half a surrogate pair is no text
    kind = ""
    for event in agent.ask(text):
        show(event)
        kind = event.kind
    if isinstance(show, Printer):
        show.end()
    return kind != "stopped"


class Printer:
    """Events for a person: pieces of text as they come, calls and results on lines of their own."""

    def __init__(self, colour: bool) -> None:
        self.colour, self.column, self.kind = colour, 0, ""

    def __call__(self, event: Event) -> None:
        if self.column and (event.kind in MARKS or event.kind != self.kind):  # an answer does not go on from a thought
            self.write("\n")
        self.kind = event.kind
        text = MARKS.get(event.kind, "") + visible(event.text) + ("\n" if event.kind in MARKS else "")
        style = COLOURS[event.kind] if self.colour else ""
        self.write(f"{style}{text}{PLAIN}" if style else text)

    def end(self) -> None:
        """Whatever comes next begins a line."""
        self.kind = ""
        if self.column:
            self.write("\n")

    def write(self, text: str) -> None:
        print(text, end="", flush=True)
        self.column = 0 if text.removesuffix(PLAIN).endswith("\n") else 1


def print_json(event: Event) -> None:
    """An object a line, all in ASCII: whatever the encoding, it is read as it was meant."""
    record = {"kind": event.kind, "text": event.text} | ({"call": asdict(event.call)} if event.call else {})
    print(json.dumps(record), flush=True)


def colourful() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def load_tools(path: Path) -> list[Tool]:
    """The tools in a Python file, which is run as a module of its folder. Raises OptionError if there are none."""
    file, name = path.resolve(), path.stem
    if not file.is_file() or path.suffix != ".py" or "." in name:
        raise OptionError(f"--tools {path}: no such Python file")
    if getattr(sys.modules.get(name), "__file__", str(file)) != str(file):
        raise OptionError(f"--tools {path}: there is another module {name}; give the file another name")
    sys.path.insert(0, str(file.parent))  # as for any script: what lies beside it can be imported
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except MinifcError:
        raise
    except (Exception, SystemExit) as error:
        raise OptionError(f"--tools {path}: {type(error).__name__}: {first_line(error)}") from None
    tools = [value for value in vars(module).values() if isinstance(value, Tool)]
    if not tools:
        raise OptionError(f"--tools {path}: no function in it has @minifc.tool")
    return tools


if __name__ == "__main__":
    run_command(main)
