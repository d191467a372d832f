"""Tools of a server that speaks the Model Context Protocol, https://modelcontextprotocol.io.

A command that starts such a server, or its address, becomes a list of tools. Each call is sent to the server, and what
comes back is data for the model, whatever it says. A result that does not come in time is an error that the model can
read, and so is the end of the server.
"""

import asyncio
import contextlib
import logging
import os
import shlex
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

from minifc.calling.grammar import arguments_of
from minifc.calling.processes import shortened
from minifc.calling.tools import Tool
from minifc.errors import OptionError, SchemaError, first_line

STARTING = 60.0  # seconds that a server may take to name its tools: some are fetched first


@dataclass(frozen=True)
class RemoteTool(Tool):
    """A tool that a server runs."""

    server: "McpServer" = field(repr=False, kw_only=True)

    def answer(self, given: Mapping[str, Any], seconds: float) -> Any:
        return self.server.call(self.name, given, seconds)


class McpServer:
    """A connection to a server, in a thread of its own, until `close`. `tools` are its tools."""

    def __init__(self, source: str, seconds: float = STARTING) -> None:
        """source: a command, as in a shell, or an address. Raises OptionError for what does not answer as a server."""
        logging.getLogger("mcp").setLevel(logging.CRITICAL)  # what goes wrong is told here
        self.source, self.tools, self.notes = source, list[Tool](), list[str]()
        self._loop = asyncio.new_event_loop()
        self._client: Any = None
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (what the server prints)
        self._end = asyncio.Event()
        self._answers = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"mcp {source}", daemon=True)
        self._thread.start()
        if not self._answers.wait(seconds):
            self.close()
            raise OptionError(f"--mcp {source!r}: no answer within {seconds:g} seconds")
        if self._failure is not None:
            why = self._why()
            self.close()
            raise OptionError(f"--mcp {source!r}: no MCP server: {why}")

    def close(self) -> None:
        """End the connection, and the server if it was started for it."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended by itself
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        self._errors.close()

    def call(self, name: str, given: Mapping[str, Any], seconds: float) -> Any:
        """What a tool answers, or {"error": ...}."""
        if self._client is None:
            return {"error": f"the server of this tool has ended: {self.source}"}
        asked = asyncio.run_coroutine_threadsafe(self._client.call_tool(name, dict(given)), self._loop)
        try:
            return _read(asked.result(seconds))
        except FutureTimeout:
            asked.cancel()
            return {"error": f"no answer within {seconds:g} seconds"}
        except Exception as error:  # of the protocol, of the transport
            return {"error": first_line(error)}

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._stay())
        except BaseException as error:
            self._failure = error
        finally:
            self._client = None
            self._answers.set()
            self._loop.close()

    async def _stay(self) -> None:
        from mcp import Client

        async with Client(self._transport()) as client:
            cursor = None
            while True:
                page = await client.list_tools(cursor=cursor)
                for tool in page.tools:
                    self._add(tool)
                if not (cursor := page.next_cursor):
                    break
            self._client = client
            self._answers.set()
            await self._end.wait()

    def _transport(self) -> Any:
        if self.source.startswith(("http://", "https://")):
            return self.source
        from mcp import StdioServerParameters, stdio_client

        command, *rest = shlex.split(self.source) or [""]
        parameters = StdioServerParameters(command=command, args=rest, env=dict(os.environ))
        return stdio_client(parameters, errlog=self._errors)

    def _add(self, tool: Any) -> None:
        """A tool whose schema cannot be followed in all is followed as far as it can be; one without sense is left."""
        where = f"tool {tool.name}"
        try:
            checked = arguments_of(tool.input_schema, where, self.notes)
        except SchemaError as error:
            self.notes.append(f"{error}; the tool is left out")
            return
        function: Callable[..., Any] = lambda **given: self.call(tool.name, given, STARTING)  # noqa: E731
        parameters = dict(tool.input_schema)
        self.tools.append(RemoteTool(function, tool.name, tool.description or "", parameters, checked, server=self))

    def _why(self) -> str:
        """The last thing that the server said before it ended, if it said anything."""
        self._errors.seek(0)
        said = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        error = self._failure
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        return said[-1] if said else first_line(error) if isinstance(error, Exception) else "it has ended"


def _read(result: Any) -> Any:
    """A result as the model is shown it: its texts, and the names of what is none."""
    parts = [part.text if part.type == "text" else f"[{_kind(part)}]" for part in result.content]
    text = shortened("\n".join(parts))
    if not parts and getattr(result, "structured_content", None) is not None:
        return result.structured_content
    return {"error": text} if result.is_error else text


def _kind(part: Any) -> str:
    return getattr(part, "mime_type", None) or str(part.type)
