"""python -m minifc.bench serve: what a server's answers cost, alone and many at once, beside other servers.

The servers run already, with the same model, and speak OpenAI's protocol. Each gets the same requests, conversations of
a data set up to the model's first turn, from 1 client and from several at once; the servers take turns. Told are the
new tokens of all clients a second, and how long it takes to the first of an answer: at the median, and of 95 in 100.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from minifc.cli import Parser, require_option
from minifc.data import Conversation, read_conversations
from minifc.errors import DataError, OptionError
from minifc.hub import find_data
from minifc.terminal import progress, text_table
from minifc.text.messages import is_assistant

SECONDS = 600  # that an answer may take


@dataclass(frozen=True)
class Answered:
    """One streamed answer."""

    first: float  # seconds to its first piece
    tokens: int


@dataclass(frozen=True)
class Server:
    name: str
    address: str
    model: str


def main(argv: Sequence[str]) -> None:
    parser = Parser(
        "bench serve", __doc__ or "", "python -m minifc.bench serve --data FILE --url http://localhost:8000"
    )
    parser.add_argument("--data", required=True, help="file, folder or hub id of conversations")
    parser.add_argument(
        "--url", action="append", required=True, help="a server's address, as URL or NAME=URL; repeat it to compare"
    )
    parser.add_argument("--clients", default="1,4,16,32", help="how many at once, in turn (%(default)s)")
    parser.add_argument("--requests", type=int, default=4, help="of each client (%(default)s)")
    parser.add_argument("--new", type=int, default=64, help="tokens of an answer, at most (%(default)s)")
    parser.add_argument("--no-tools", action="store_true", help="leave the tools out: some servers refuse them")
    args = parser.parse(argv)
    require_option(args.requests >= 1, "requests", args.requests, "must be at least 1")
    require_option(args.new >= 1, "new", args.new, "must be at least 1")
    counts = [int(count) for count in args.clients.split(",") if count.isdecimal() and int(count)]
    require_option(bool(counts), "clients", args.clients, "must be numbers with commas between them")
    servers = [_find(url) for url in args.url]
    bodies = list(_bodies(read_conversations(find_data(args.data).files), args.new, not args.no_tools))
    if not bodies:
        raise DataError(f"{args.data}: no conversation in which the model speaks")
    table = [["server", "clients", "answers", "tokens/s", "of one's", "first token", "p95"]]
    alone: dict[str, float] = {}
    with progress(len(counts) * len(servers), "measuring", "round") as bar:
        for count in counts:
            for server in servers:
                wanted = [bodies[i % len(bodies)] for i in range(count * args.requests)]
                started = time.perf_counter()
                with ThreadPoolExecutor(count) as pool:
                    found = list(pool.map(lambda body, server=server: _ask(server, body), wanted))
                speed = sum(one.tokens for one in found) / (time.perf_counter() - started)
                alone.setdefault(server.name, speed)
                firsts = [one.first for one in found]
                last = quantiles(firsts, n=20)[-1] if len(firsts) > 1 else firsts[0]
                table.append(
                    [server.name, str(count), str(len(found)), f"{speed:,.0f}", f"{speed / alone[server.name]:.1f}x",
                     f"{median(firsts):.2f} s", f"{last:.2f} s"]
                )  # fmt: skip
                bar.update()
    print(text_table(table))


def _find(url: str) -> Server:
    """The server at an address, and its model. Raises OptionError if there is none."""
    name, _, address = url.rpartition("=")
    address = address.rstrip("/").removesuffix("/v1")
    try:
        with urllib.request.urlopen(f"{address}/v1/models", timeout=10) as response:
            model = json.load(response)["data"][0]["id"]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise OptionError(f"--url {url}: no server with OpenAI's API answers there: {error}") from None
    return Server(name or address.partition("://")[2], address, model)


def _bodies(conversations: Sequence[Conversation], new: int, with_tools: bool) -> Iterator[dict[str, Any]]:
    """Each conversation up to the model's first turn, as a request."""
    for conversation in conversations:
        place = next((i for i, message in enumerate(conversation.messages) if is_assistant(message)), 0)
        if not place:
            continue
        tools = [{"type": "function", "function": dict(tool)} for tool in conversation.tools if with_tools]
        body: dict[str, Any] = {"messages": [dict(message) for message in conversation.messages[:place]]}
        body |= {"max_tokens": new, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
        yield body | ({"tools": tools} if tools else {})


def _ask(server: Server, body: dict[str, Any]) -> Answered:
    """Raises OptionError with what the server says, if it does not answer."""
    request = urllib.request.Request(
        f"{server.address}/v1/chat/completions",
        json.dumps(body | {"model": server.model}).encode(),
        {"Content-Type": "application/json"},
    )
    started, first, pieces, counted = time.perf_counter(), 0.0, 0, 0
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            for line in response:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    raise OptionError(f"{server.name}: {chunk['error'].get('message')}")
                delta = chunk["choices"][0]["delta"] if chunk["choices"] else {}
                if any(delta.get(name) for name in ("content", "reasoning_content", "tool_calls")):
                    first = first or time.perf_counter() - started
                    pieces += 1
                counted = (chunk.get("usage") or {}).get("completion_tokens") or counted
    except urllib.error.HTTPError as error:
        raise OptionError(f"{server.name}: {error.code}: {error.read(500).decode(errors='replace')}") from None
    except OSError as error:
        raise OptionError(f"{server.name}: {error}") from None
    return Answered(first or time.perf_counter() - started, counted or pieces)
