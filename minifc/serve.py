"""python -m minifc.serve: a server that programs made for OpenAI's API can use.

It answers /v1/chat/completions. Clients bring their own tools, and calls are held to the tools' schemas. At / there is
a page to talk to the model, with tools that run here: those of --tools, --read and --mcp. Ctrl-C ends it.
"""

import importlib.util
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minifc.calling.tools import Tool
from minifc.cli import Parser, require_option, run_command
from minifc.errors import OptionError
from minifc.hub import TINY_ADAPTER
from minifc.loading import Loaded, add_model_options, load_from
from minifc.own_tools import add_tool_options, check_tool_options, open_tools
from minifc.terminal import note

LOCAL = ("127.0.0.1", "localhost", "::1")


def main(argv: Sequence[str]) -> None:
    parser = Parser("serve", __doc__ or "", "python -m minifc.serve --model runs/caller --port 8000")
    add_model_options(parser)
    add_tool_options(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is all (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="port to listen on (%(default)s)")
    parser.add_argument("--name", help="the model's name for clients (default: the last part of --model)")
    parser.add_argument("--key", help="what clients must send as their API key (default: none)")
    parser.add_argument("--rows", type=int, default=16, metavar="N", help="answers written side by side (%(default)s)")
    parser.add_argument("--queue", type=int, default=64, metavar="N", help="requests that may wait (%(default)s)")
    parser.add_argument(
        "--max-tokens", type=int, default=1024, metavar="N", help="limit of an answer without its own (%(default)s)"
    )
    args = parser.parse(argv)
    for name in ("rows", "queue", "max_tokens"):
        require_option(getattr(args, name) >= 1, name.replace("_", "-"), getattr(args, name), "must be at least 1")
    require_option(0 <= args.port < 2**16, "port", args.port, "must be between 0 and 65535")
    if missing := [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]:
        raise OptionError(f"serve needs {missing[0]}: pip install 'minifc[serve]'")
    from minifc.serving.running import bind

    given = check_tool_options(args)
    # The address is taken before the model is loaded: one that is in use is told at once.
    with bind(args.host, args.port) as socket:
        loaded = load_from(args)
        with open_tools(args, given, loaded) as tools:
            serve(args, loaded, tools, socket)


def serve(args: Namespace, loaded: Loaded, tools: list[Tool], socket: Any) -> None:
    """Answer until Ctrl-C."""
    from minifc.serving.answering import Answering
    from minifc.serving.app import make_app
    from minifc.serving.engine import Engine
    from minifc.serving.running import run

    model = args.name or Path(args.adapter or args.model or TINY_ADAPTER).name
    engine = Engine(loaded.model, args.rows, args.queue)
    answering = Answering(loaded, engine, model, args.max_tokens, log=note)
    hosts = ["localhost", "127.0.0.1", "[::1]"] if args.host in LOCAL else ["*"]
    shown = "localhost" if args.host in (*LOCAL, "0.0.0.0", "::") else args.host
    address = f"http://{shown}:{socket.getsockname()[1]}"
    note(f"{model} answers at {address}/v1; talk to it at {address} (Ctrl-C ends)")
    if args.host not in LOCAL and not args.key:
        note("note: without --key, whoever reaches this machine can use it")
    try:
        run(make_app(answering, args.key, hosts, tools), socket)
    finally:
        engine.close()


if __name__ == "__main__":
    run_command(main)
