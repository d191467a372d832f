"""The tools that a command works with: those of a Python file, of other programs, or a few that suit the model."""

import argparse
import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from minifc.calling import sample_tools, tiny_tools
from minifc.calling.tools import Tool
from minifc.errors import MinifcError, OptionError, first_line
from minifc.hub import TINY
from minifc.loading import Loaded
from minifc.terminal import note
from minifc.text.dialects import dialect_of


def add_tool_options(parser: argparse.ArgumentParser) -> None:
    """The options of the commands that have tools."""
    parser.add_argument(
        "--tools", type=Path, metavar="FILE", help="a Python file with tools (default: a few that suit the model)"
    )
    parser.add_argument("--read", type=Path, metavar="FOLDER", help="let the model read files below this folder")
    parser.add_argument(
        "--mcp", action="append", default=[], metavar="COMMAND",
        help="take the tools of an MCP server, which this command starts, or whose address it is; may be repeated",
    )  # fmt: skip


def check_tool_options(args: argparse.Namespace) -> list[Tool] | None:
    """The tools of --tools, None without it. Raises OptionError, before a model is loaded, for what cannot be used."""
    tools = load_tools(args.tools) if args.tools else None
    if args.read and not args.read.is_dir():
        raise OptionError(f"--read {args.read}: no such folder")
    if args.mcp and importlib.util.find_spec("mcp") is None:
        raise OptionError("--mcp needs the package mcp: pip install 'minifc[mcp]'")
    return tools


@contextlib.contextmanager
def open_tools(args: argparse.Namespace, given: list[Tool] | None, loaded: Loaded) -> Iterator[list[Tool]]:
    """All tools, as long as the servers of --mcp run. given: what `check_tool_options` returned."""
    if given is None:
        given = [] if args.mcp else default_tools(loaded)
    tools = [*given, *([sample_tools.file_reader(args.read)] if args.read else ())]
    with contextlib.ExitStack() as stack:
        for source in args.mcp:
            from minifc.calling.mcp import McpServer

            server = McpServer(source)
            stack.callback(server.close)
            for text in server.notes:
                note(f"note: --mcp {source!r}: {text}")
            names = {tool.name for tool in tools}
            if twice := [tool.name for tool in server.tools if tool.name in names]:
                raise OptionError(f"--mcp {source!r}: there is another tool {twice[0]}")
            tools += server.tools
        yield tools


def default_tools(loaded: Loaded) -> list[Tool]:
    """Tools that suit the model: none if it has no token to call them with."""
    if not loaded.tokenizer.control.keys() >= set(dialect_of(loaded.format, loaded.tokenizer).call_tokens):
        return []
    return list(tiny_tools.TOOLS if loaded.base.name == TINY else sample_tools.TOOLS)


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
