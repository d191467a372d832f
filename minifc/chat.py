"""python -m minifc.chat: talk to a model that uses tools.

A model's thoughts are marked with …, its calls with →, and their results with ←. `--tools` brings your own tools: a
Python file with functions under @minifc.tool. `/new` begins a new conversation; `/quit` or Ctrl-D ends.
"""

import contextlib
import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict

from minifc.calling import tiny_tools
from minifc.calling.agent import Agent, Event
from minifc.calling.confidence import Confidence
from minifc.cli import Parser, require_option, run_command, seed_number
from minifc.errors import MinifcError, OptionError, ParameterError
from minifc.gemma.generate import Sampling
from minifc.loading import add_model_options, load_from
from minifc.own_tools import add_tool_options, check_tool_options, open_tools
from minifc.terminal import colourful, columns, printable
from minifc.text.calls import THINK, Call

DIM, BLUE, GREEN, RED, PLAIN = "\033[2m", "\033[34m", "\033[32m", "\033[31m", "\033[0m"
COLOURS = {"thought": DIM, "call": BLUE, "result": GREEN, "stopped": RED}
MARKS = {"thought": "… ", "call": "→ ", "result": "← ", "stopped": "! "}
IN_PIECES = ("thought", "text")


Show = Callable[[Event], None]


def main(argv: Sequence[str]) -> None:
    parser = Parser("chat", __doc__ or "", "python -m minifc.chat --tools my_tools.py")
    add_model_options(parser)
    add_tool_options(parser)
    parser.add_argument("--free", action="store_true", help="let the model write calls without the grammar")
    parser.add_argument("--think", action="store_true", help="begin the model's reply to each question with <think>")
    parser.add_argument(
        "--max-new-tokens", type=int, default=512, metavar="N", help="limit of one turn of the model (default: 512)"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T",
        help="sampling temperature; 0 takes the likeliest token (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--top-p", type=float, default=1.0, metavar="P",
        help="sample from the likeliest tokens that together reach this probability (default: 1, all tokens)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=seed_number, metavar="N", help="random seed for sampling (default: another one each time)"
    )
    parser.add_argument(
        "--confirm-below", type=float, default=0.0, metavar="P",
        help="ask before a call whose probability is below this, such as 0.9 (default: 0, never)",
    )  # fmt: skip
    parser.add_argument("--once", metavar="QUESTION", help="ask one question and end")
    parser.add_argument("--json", action="store_true", help="print each event as a line of JSON")
    args = parser.parse(argv)
    require_option(args.max_new_tokens >= 1, "max-new-tokens", args.max_new_tokens, "must be at least 1")
    require_option(0 <= args.confirm_below <= 1, "confirm-below", args.confirm_below, "must be between 0 and 1")
    try:
        sampling = Sampling(args.temperature, top_p=args.top_p, seed=args.seed)
    except ParameterError as error:
        raise error.as_option() from None
    given = check_tool_options(args)
    loaded = load_from(args)
    if args.think and THINK not in loaded.tokenizer.control:
        raise OptionError("--think: the model has no token <think> to begin with; leave the option out")
    with open_tools(args, given, loaded) as tools:
        show: Show = print_json if args.json else Printer(colourful(sys.stdout))
        agent = Agent(
            loaded.model, loaded.tokenizer, tools, loaded.format, constrained=not args.free, think=args.think,
            max_new_tokens=args.max_new_tokens, sampling=sampling, strict=not args.mcp,
            confirm=confirmation(args.confirm_below),
        )  # fmt: skip
        if args.once is not None:
            if not answer(agent, args.once, show):
                raise MinifcError("--once: there is no answer")
            return
        names = ", ".join(tool.name for tool in tools) or "none"
        print(textwrap.fill(f"{loaded.adapter or loaded.base.name}; tools: {names}", columns()), file=sys.stderr)
        print("/new begins a new conversation, /quit ends", file=sys.stderr)
        if tools == tiny_tools.TOOLS:
            print(f"try: {tiny_tools.QUESTION}", file=sys.stderr)
        converse(agent, show)


def confirmation(below: float) -> Callable[[Call, Confidence], bool]:
    """What asks a person about each call whose probability is below this. Where nobody answers, it is not run."""

    def confirm(call: Call, sure: Confidence) -> bool:
        if sure.whole >= below:
            return True
        print(f"? run {call.name}? The model gives it {sure.whole:.0%} [y/N] ", end="", file=sys.stderr, flush=True)
        try:
            return input().strip().lower() in ("y", "yes")
        except EOFError:
            print(file=sys.stderr)
            return False

    return confirm


def converse(agent: Agent, show: Show) -> None:
    """Ask and answer until the input ends. Ctrl-C stops the answer, not the conversation."""
    person = sys.stdin.isatty() and sys.stdout.isatty()
    if person:
        with contextlib.suppress(ImportError):  # Windows has none
            import readline  # noqa: F401  (gives input() a history)
    while True:
        try:
            question = input("> " if person else "").strip()
        except EOFError:
            return
        if question == "/quit":
            return
        if question == "/new":
            agent.reset()
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
    """Events for a person: thoughts and text as they come, calls and results whole, each line with its mark."""

    def __init__(self, colour: bool) -> None:
        self.colour, self.in_line, self.kind = colour, False, ""

    def __call__(self, event: Event) -> None:
        in_pieces = event.kind in IN_PIECES
        if event.kind != self.kind and in_pieces and not event.text.strip():
            return  # an empty line between a thought and a call or an answer
        if event.kind != self.kind or not in_pieces:
            self.end()
        self.kind = event.kind
        for line in printable(event.text + ("" if in_pieces else "\n")).splitlines(keepends=True):
            mark = "" if self.in_line else MARKS.get(event.kind, "")
            colour = COLOURS.get(event.kind, "") if self.colour else ""
            print(f"{colour}{mark}{line}{PLAIN if colour else ''}", end="", flush=True)
            self.in_line = not line.endswith("\n")

    def end(self) -> None:
        """Whatever comes next begins a line."""
        if self.in_line:
            print(flush=True)
        self.kind, self.in_line = "", False


def print_json(event: Event) -> None:
    """An object a line, all in ASCII: whatever the encoding, it is read as it was meant."""
    record = {"kind": event.kind, "text": event.text} | ({"call": asdict(event.call)} if event.call else {})
    record |= {"confidence": asdict(event.confidence)} if event.confidence else {}
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    run_command(main)
