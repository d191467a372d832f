"""python -m lessons.build: the lessons as pages, executed, with what they print and draw.

Runs every lesson as a notebook and writes a static site into site/, with the notebooks beside it. No page loads
anything from the network. The search needs a server: `python -m http.server -d site`.
"""

import base64
import html
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lessons import lesson  # noqa: F401 - it ends with a line of its own where MINIFC_MODEL names no model
from lessons.check import HERE, chosen
from minifc.cli import Parser, run_command
from minifc.errors import MinifcError, OptionError, first_line

try:
    import jupytext
    from mkdocs.commands.build import build as build_site
    from mkdocs.config import load_config
    from mkdocs.exceptions import MkDocsException
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError
    from nbformat import NotebookNode, write
    from nbformat.v4 import new_code_cell
    from traitlets.config import Config
except ImportError as missing:
    print(f"error: {missing.name} is not installed; pip install -c constraints.txt -e '.[plot,pages]'", file=sys.stderr)
    sys.exit(2)

ROOT = HERE.parent
LANGUAGES = {".py": "python", ".md": "markdown"}
GITHUB, COLAB = "https://github.com/", "https://colab.research.google.com/github/"
COLOUR = r"\x1b\[[\d;]*m"  # a terminal's
MARK = "assets/pages.css"  # a folder with this is a site of ours
INSTALL = """\
# In a folder lessons/ of minifc this does nothing. Elsewhere, on Colab for instance, it fetches minifc and
# installs it beside the torch that is there.
import os

REPOSITORY = {repository!r}
if not os.path.exists("lesson.py"):
    assert REPOSITORY, "write into REPOSITORY where git finds minifc, or open this notebook in its folder lessons/"
    !git clone -q --depth 1 $REPOSITORY minifc-lessons
    %cd minifc-lessons/lessons
    %pip install -q '..[plot]'
"""


class LessonError(MinifcError):
    """A lesson that fails, or says what no page can be made of."""


def contents(names: Sequence[str]) -> list[dict[str, Any]]:
    """The contents of the site: the parts of lessons/README.md, each with the lessons of its rows that are built."""
    parts: list[dict[str, Any]] = []
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (HERE / "README.md").read_text("utf-8"), re.S | re.M):
        if listed := [name for name in re.findall(r"^\| \[.+?\]\((\d\d_\w+)\.py\)", body, re.M) if name in names]:
            parts.append({title: [f"{name}.md" for name in listed]})
    if left := set(names) - {Path(page).stem for part in parts for pages in part.values() for page in pages}:
        raise LessonError(f"lessons/README.md: lists no lesson {min(left)}; give it a row")
    return [{"Map": "index.md"}, *parts, {"Glossary": "glossary.md"}, {"The package": "source/index.md"}]


def read(name: str) -> NotebookNode:
    """The lesson as a notebook."""
    notebook = jupytext.read(HERE / f"{name}.py")
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # not a random one: a lesson unchanged is a notebook unchanged
    return notebook


def execute(name: str, notebook: NotebookNode) -> None:
    """Run a lesson's notebook, as a reader would who sits in lessons/."""
    path = HERE / f"{name}.py"
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(HERE)}},
        config=Config(KernelManager={"transport_encryption": "required"}),
        extra_arguments=["--ZMQInteractiveShell.ast_node_interactivity=none"],  # only what is printed, as in a script
    )
    try:
        client.execute()
    except (CellExecutionError, CellControlSignal, DeadKernelError, RuntimeError) as error:
        number = max((i for i, cell in enumerate(notebook.cells) if cell.get("execution_count")), default=0)
        lines = [i for i, line in enumerate(path.read_text("utf-8").splitlines(), 1) if line.startswith("# %%")]
        what, inside = first_line(error), None
        if isinstance(error, CellExecutionError):
            what = f"{error.ename}: {error.evalue}".partition("\n")[0]
            inside = re.search(r"Cell In\[\d+\], line (\d+)", re.sub(COLOUR, "", error.traceback))
        line = lines[number] + int(inside[1] if inside else 0)
        raise LessonError(f"lessons/{name}.py: cell {number + 1}, line {line}: {what}") from None


class Pages:
    """The folder of Markdown pages that MkDocs makes the site of."""

    def __init__(self, folder: Path, names: Sequence[str], repository: str) -> None:
        self.folder, self.repository = folder, repository
        self.pages = {HERE / f"{name}.py": f"{name}.md" for name in names}
        self.pages |= {HERE / "README.md": "index.md", HERE / "glossary.md": "glossary.md"}
        self.sources = set((ROOT / "minifc").rglob("*.py"))
        for path in ("pictures", "notebooks", "assets"):
            (folder / path).mkdir(parents=True)
        for path in ("pages.css", "pages.js"):
            shutil.copy(HERE / "pages" / path, folder / "assets")

    def link(self, path: Path) -> str:
        """Where a file of the repository is on the site: its page, or its source."""
        return self.pages.get(path) or self.source(path)

    def source(self, path: Path) -> str:
        """Where the source of a file of the repository is on the site."""
        if not path.is_file() or not path.is_relative_to(ROOT):
            raise LessonError(f"there is no {os.path.relpath(path, ROOT)} to link to")
        self.sources.add(path)
        return f"source/{path.relative_to(ROOT).as_posix()}.md"

    def linked(self, text: str, where: str) -> str:
        """A text of lessons/ with its links leading to pages of the site."""

        def moved(found: re.Match[str]) -> str:
            path = Path(os.path.normpath(HERE / found[1]))
            try:
                return f"]({self.link(path)}{(found[2] or '') if path in self.pages else ''})"
            except LessonError as error:
                raise LessonError(f"lessons/{where}: {error}") from None

        return re.sub(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)", moved, text)

    def write(self, page: str, *parts: str) -> None:
        path = self.folder / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")

    def add_lesson(self, name: str, notebook: NotebookNode) -> None:
        """The page of a lesson that has been run, and its pictures."""
        parts = []
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                parts.append(self.linked(cell.source, f"{name}.py"))
            else:
                parts.append(fenced(cell.source, ".python"))
                parts += [
                    self.shown(output, f"{name}-{cell.id}-{number}")
                    for number, output in enumerate(cell.get("outputs", ()))
                ]
        title, _, rest = parts[0].partition("\n")
        self.write(f"{name}.md", title, self.ways(name), rest, *parts[1:])

    def shown(self, output: NotebookNode, name: str) -> str:
        """What a cell has printed or drawn."""
        data = output.get("data", {})
        if picture := data.get("image/png"):
            (self.folder / f"pictures/{name}.png").write_bytes(base64.b64decode(picture))
            alt = html.escape(output.metadata["image/png"]["alt"])
            # A link to itself: on a phone, a picture with two halves is small.
            return f'<figure><a href="pictures/{name}.png"><img src="pictures/{name}.png" alt="{alt}"></a></figure>'
        if output.get("name") == "stderr":  # progress bars
            return ""
        text = output.get("text") or data["text/plain"]
        # Columns are scrolled; a line that is longer than any of a lesson's is no row of a table, and is folded.
        folded = " .folded" if max(map(len, text.splitlines())) > 120 else ""
        return fenced(text, f".text .output .no-copy{folded}")

    def ways(self, name: str) -> str:
        """The row of links under a lesson's title."""
        ways = {"Notebook": f"notebooks/{name}.ipynb"}
        if self.repository.startswith(GITHUB):
            ways["Open in Colab"] = f"{COLAB}{self.repository.removeprefix(GITHUB)}/blob/gh-pages/{ways['Notebook']}"
        ways["Script"] = self.source(HERE / f"{name}.py")
        ways |= {folder.title(): self.source(HERE / folder / f"{name}.py") for folder in ("exercises", "solutions")}
        return " · ".join(f"[{way}]({target})" for way, target in ways.items()) + "\n{ .ways }"

    def add_notebook(self, name: str, notebook: NotebookNode) -> None:
        """The notebook, which first fetches minifc where it runs without it."""
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = re.sub(r"\]\((\d\d_\w+)\.py", r"](\1.ipynb", cell.source)
                if self.repository:
                    cell.source = cell.source.replace("](../", f"]({self.repository}/blob/HEAD/")
        notebook.cells.insert(0, new_code_cell(INSTALL.format(repository=self.repository), id="install"))
        write(notebook, self.folder / "notebooks" / f"{name}.ipynb")

    def add_sources(self) -> None:
        """The package's files, the others that something links to, and a list of the package's."""
        listed = []
        for path in sorted(self.sources):
            text, name = path.read_text("utf-8"), path.relative_to(ROOT).as_posix()
            kind = LANGUAGES.get(path.suffix, "text")
            self.write(self.source(path), "---\nsearch: {exclude: true}\n---", f"# `{name}`", fenced(text, f".{kind}"))
            first = re.match(r'"""(.+?)("""|\n)', text)
            if first and path.is_relative_to(ROOT / "minifc"):
                listed.append(f"- [`{name}`]({os.path.relpath(self.source(path), 'source')}): {first[1]}")
        self.write(
            "source/index.md", "# The package", "The files of minifc, as they introduce themselves.", "\n".join(listed)
        )


def fenced(text: str, kind: str) -> str:
    fence = "~" * 8
    text = re.sub(COLOUR, "", text).rstrip("\n")
    return f"{fence} {{ {kind} }}\n{text}\n{fence}"


def make_site(pages: Path, site: Path, names: Sequence[str]) -> None:
    """Let MkDocs make the site; what it warns of, a broken link for instance, is an error."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    folders = {"docs_dir": str(pages), "site_dir": str(site)}
    config = load_config(
        str(HERE / "pages/mkdocs.yml"), nav=contents(names), strict=True, use_directory_urls=False, **folders
    )
    try:
        build_site(config)
    except MkDocsException as error:
        raise LessonError(f"no site: {first_line(error)}") from None


def main(argv: Sequence[str]) -> None:
    parser = Parser("build", __doc__ or "", "python -m lessons.build --lesson 03 --to /tmp/site", package="lessons")
    parser.add_argument("--lesson", nargs="+", default=[], metavar="NN", help="only these lessons, for a quick look")
    parser.add_argument("--to", type=Path, default=ROOT / "site", metavar="FOLDER", help="default: site/")
    parser.add_argument(
        "--repository",
        default="",
        metavar="URL",
        help="where notebooks fetch minifc from; on GitHub, with the site as branch gh-pages, pages lead to Colab",
    )
    args = parser.parse(argv)
    names = chosen(args.lesson)
    target = args.to.resolve()
    if target.exists() and not (target / MARK).is_file():
        raise OptionError(f"{target}: is there and is no site of lessons; name another folder")
    contents(names)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
        pages = Pages(Path(temporary, "pages"), names, args.repository.rstrip("/"))
        for text, page in (("README.md", "index.md"), ("glossary.md", "glossary.md")):
            pages.write(page, pages.linked((HERE / text).read_text("utf-8"), text))
        notebooks = {name: read(name) for name in names}
        for name, notebook in notebooks.items():  # a link that leads nowhere is found before minutes of running
            pages.add_lesson(name, notebook)
        for name, notebook in (bar := tqdm(notebooks.items())):
            bar.set_description(name)
            execute(name, notebook)
            pages.add_lesson(name, notebook)
            pages.add_notebook(name, notebook)
        pages.add_sources()
        new, old = Path(temporary, "site"), Path(temporary, "old")
        make_site(pages.folder, new, names)
        if target.exists():  # it takes the old one's place when it is whole
            os.rename(target, old)
        os.rename(new, target)
    print(f"{len(names)} lessons in {target}; look at them with: python -m http.server -d {target}")


if __name__ == "__main__":
    run_command(main)
