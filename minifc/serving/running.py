"""The socket that a server listens on, and its life from there to Ctrl-C."""

import socket

import uvicorn
from starlette.applications import Starlette

from minifc.errors import OptionError

SECONDS_TO_END = 3  # that answers have to finish when the server is to end


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises OptionError for an address that is in use or not there."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except (OSError, OverflowError) as error:
        made.close()
        why = getattr(error, "strerror", None) or error
        raise OptionError(f"--host {host} --port {port}: {why}; choose another") from None
    return made


def run(app: Starlette, listening: socket.socket) -> None:
    """Serve until Ctrl-C, or until the process is told to end."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=SECONDS_TO_END, timeout_keep_alive=30
    )
    uvicorn.Server(config).run(sockets=[listening])
