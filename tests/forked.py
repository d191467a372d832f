"""Programs in forks of one process that has imported the large packages already, so that each begins at once.

minifc and the tests are imported in the fork, from the folder that it is given.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from pathlib import Path

IMPORTED = (
    "huggingface_hub.hf_api", "matplotlib.pyplot", "pytest", "safetensors.torch", "sentencepiece", "tokenizers",
    "torch._dynamo", "tqdm",
)  # fmt: skip
SECONDS = 600  # after which a program is ended


class Forks:
    """The process to fork from. `folder` is for what a program prints."""

    def __init__(self, folder: Path) -> None:
        self.out, self.err = folder / "stdout", folder / "stderr"
        # Without bytecode of its own: a file changed twice in a second would be taken for the first.
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "Agg"}
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
        """As `python ARGV...` in a folder, from which it imports minifc: a script and its arguments, or -m MODULE."""
        assert self.process.stdin
        assert self.process.stdout
        for path in (self.out, self.err):
            path.write_text("")
        print(json.dumps([str(folder), str(self.out), str(self.err), *argv]), file=self.process.stdin, flush=True)
        status = int(self.process.stdout.readline())
        return subprocess.CompletedProcess(argv, status, self.out.read_text(), self.err.read_text())

    def close(self) -> None:
        self.process.communicate()


def become(folder: str, out: str, err: str, *argv: str) -> None:
    """What `run` promises, in the process that this is called in."""
    signal.alarm(SECONDS)
    os.chdir(folder)
    for number, path in enumerate((os.devnull, out, err)):
        os.dup2(os.open(path, os.O_RDWR), number)
    status: object = 0
    try:
        if argv[0] == "-m":
            sys.argv, sys.path[0] = list(argv[1:]), folder
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[:1] = list(argv), [str(Path(argv[0]).parent), folder]
            runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as stopped:
        status = stopped.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(status or 0))


if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        if not (child := os.fork()):
            become(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
