"""The pages of the lessons, as a browser, a keyboard and an accessibility checker find them.

Builds two lessons; with MINIFC_SITE=folder a site that has been built already is checked instead.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pages")]  # the site is built once
for module in ("jupytext", "nbclient", "material", "latex2mathml"):
    pytest.importorskip(module, reason="the pages extra is not installed: pip install -e '.[pages]'")
nbformat = pytest.importorskip("nbformat")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ROOT = Path(__file__).resolve().parents[2]
SEEN = ("index.html", "glossary.html", "source/index.html", "source/minifc/text/tokenizer.py.html")


def build(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lessons.build", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if built := os.environ.get("MINIFC_SITE"):
        return Path(built)
    folder = tmp_path_factory.mktemp("pages") / "site"
    result = build("--lesson", "01", "03", "--to", str(folder))
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


class Page(HTMLParser):
    """What a page refers to: links to follow, and what is loaded to show it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places = {"", "__top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, pairs: list[tuple[str, str | None]]) -> None:
        attributes = dict(pairs)
        self.places.add(attributes.get("id") or attributes.get("name") or "")
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"] or "")
        elif tag == "link" and attributes.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(attributes.get("href") or "")
        elif attributes.get("src"):
            self.loaded.append(attributes["src"] or "")
        if tag == "img":
            assert attributes.get("alt"), f"a picture without words: {attributes}"


def test_every_link_and_picture_resolves(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 50
    for path, page in pages.items():
        if path.name == "404.html":  # it is shown at any address, so its links are from the root
            continue
        for link in page.loaded + page.links:
            address = urlsplit(link)
            if address.scheme in ("http", "https"):
                assert link in page.links, f"{path}: loads {link}"
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            if target.is_dir():
                target /= "index.html"
            assert target.is_file(), f"{path}: {link}"
            if target in pages:
                assert address.fragment in pages[target].places, f"{path}: {link}"


def test_the_contents_list_each_lesson_once() -> None:
    from lessons.build import contents
    from lessons.check import lessons

    parts = [part for part in contents(lessons()) if isinstance(next(iter(part.values())), list)]
    assert [next(iter(part)) for part in parts] == ["The model", "Teaching it", "Letting it act"]
    assert [page for part in parts for page in next(iter(part.values()))] == [f"{name}.md" for name in lessons()]


def test_notebooks_install_minifc_beside_the_torch_that_is_there(site: Path) -> None:
    notebooks = sorted((site / "notebooks").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        first = notebook.cells[0].source
        assert "pip install -q '..[plot]'" in first
        assert not {"torch==", "-U", "--upgrade", "constraints"} & set(first.split())
        assert any(cell.get("outputs") for cell in notebook.cells)


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():  # type: ignore[no-untyped-def]
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: '.[pages-test]'")
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed: '.[pages-test]'")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def to_look_at(site: Path) -> list[str]:
    return [*SEEN, *sorted(path.name for path in site.glob("[0-9][0-9]_*.html"))]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_open_quietly_and_axe_finds_nothing(browser, site: Path, address: str, scheme: str, width: int) -> None:  # type: ignore[no-untyped-def]
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: request.url.startswith((address, "data:")) or heard.append(request.url))
    page.on("response", lambda response: response.ok or response.status == 304 or heard.append(response.url))
    faults = []
    for name in to_look_at(site):
        page.goto(f"{address}/{name}")
        page.wait_for_load_state("networkidle")
        assert (
            page.locator("body").get_attribute("data-md-color-scheme") == {"light": "default", "dark": "slate"}[scheme]
        )
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is too wide"
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)"), name
        for fault in Axe().run(page).response["violations"]:
            if fault["impact"] in ("serious", "critical"):
                reasons = sorted({reason["message"] for node in fault["nodes"] for reason in node["any"]})
                faults.append(f"{name}: {fault['id']}: {fault['nodes'][0]['html'][:150]}: {reasons[:5]}")
        assert not heard, f"{name}: {heard}"
    context.close()
    assert not faults, "\n" + "\n".join(faults)


def test_the_keyboard_reaches_text_and_search(browser, address: str) -> None:  # type: ignore[no-untyped-def]
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{address}/01_tokens.html")
    page.wait_for_load_state("networkidle")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Skip to content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('article').contains(document.activeElement)")

    page.goto(f"{address}/01_tokens.html")
    page.wait_for_load_state("networkidle")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('data-md-component')") == "search-query":
            break
    else:
        raise AssertionError("ten times Tab, and no search")
    page.keyboard.type("byte fallback")
    page.wait_for_selector(".md-search-result__item a")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/*?h=*")
    assert "byte" in page.url

    page.keyboard.press("Escape")
    shown = page.locator("body").get_attribute("data-md-color-scheme")
    page.locator("form[data-md-component=palette] label:visible").press("Enter")
    page.wait_for_function(f"document.body.getAttribute('data-md-color-scheme') != '{shown}'")
    page.close()


def test_code_can_be_copied_and_output_is_not_code(browser, address: str) -> None:  # type: ignore[no-untyped-def]
    page = browser.new_page()
    page.goto(f"{address}/01_tokens.html")
    page.wait_for_selector(".md-code__button")
    assert page.locator(".highlight:not(.output) .md-code__button").count() > 5
    assert page.locator(".output .md-code__button").count() == 0
    page.close()


def test_a_lesson_that_fails_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    model, target = tmp_path / "no tokenizer", tmp_path / "site"
    model.mkdir()
    (model / "config.json").write_text("{}")
    result = build("--lesson", "01", "--to", str(target), MINIFC_MODEL=str(model))
    assert result.returncode == 2
    last = result.stderr.strip().splitlines()[-1]
    assert re.match(r"error: lessons/01_tokens\.py: cell 2, line \d+: FileNotFoundError: ", last), last
    assert list(tmp_path.iterdir()) == [model]


def test_a_folder_that_is_no_site_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    result = build("--to", str(tmp_path))
    assert result.returncode == 2
    assert "is no site of lessons" in result.stderr
    assert (tmp_path / "mine").read_text() == "mine"
