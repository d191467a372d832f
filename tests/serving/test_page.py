"""The page, as a person finds it: with a mouse, a keyboard, a phone, in the dark, and by an accessibility checker."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("served page")]
playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[pages-test]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install -e '.[pages-test]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("there is no Chromium", allow_module_level=True)
QUESTION = "Please measure an age with year 1958."
SECONDS = 60_000  # in ms


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, server: Any) -> Iterator[Any]:
    """The page, of which no script may fail, and which may load nothing from elsewhere."""
    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: errors.append(request.url) if not request.url.startswith(server.url) else None)
    page.goto(server.url)
    playwright.expect(page).to_have_title("tiny-caller")
    yield page
    assert [error for error in errors if not error.startswith("data:")] == []
    context.close()


def ask(page: Any, question: str) -> None:
    page.fill("#question", question)
    page.keyboard.press("Enter")


def answered(page: Any) -> None:
    playwright.expect(page.locator("#send")).to_have_text("Send", timeout=SECONDS)


def test_a_conversation(page: Any) -> None:
    """The thought is folded, the call and its result are marked, and so are the forced tokens."""
    ask(page, QUESTION)
    answered(page)
    assert page.locator(".user").inner_text() == QUESTION
    assert not page.locator(".thought").is_visible()
    page.get_by_text("Thought", exact=True).click()
    assert page.locator(".thought").inner_text().startswith("The task is measure_age.")
    assert json.loads(page.locator(".call code").inner_text()) == {"name": "measure_age", "arguments": {"year": 1958}}
    forced = page.locator(".call .forced").all_inner_texts()
    assert '{"' in "".join(forced)
    assert "1958" not in "".join(forced)
    assert json.loads(page.locator(".result code").inner_text()) == {"age": 68}
    assert page.locator(".assistant").inner_text() == "The age is 68."
    ask(page, QUESTION)
    answered(page)
    assert page.locator(".assistant").count() == 2
    page.get_by_role("button", name="New conversation").click()
    assert page.locator(".user, .call, .result, .assistant").count() == 0


def test_by_keyboard_alone(page: Any) -> None:
    """The message has the focus; Shift+Enter begins a line; Escape stops; everything can be reached by Tab."""
    page.keyboard.type("Please measure an age")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("with year 1958.")
    page.keyboard.press("Enter")
    assert page.locator(".user").inner_text() == "Please measure an age\nwith year 1958."
    page.keyboard.press("Escape")
    answered(page)
    assert page.locator(".error").inner_text() == "Stopped; the question is forgotten."
    reached = set()
    page.locator("#settings summary").press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert reached >= {"new", "tools", "system", "temperature", "key", "question", "send"}


def test_a_tool_of_one_s_own_is_answered_by_hand_and_content_is_text(page: Any) -> None:
    parameters = {"type": "object", "properties": {"owner": {"type": "string"}}, "required": ["owner"]}
    page.locator("#settings summary").click()
    tool = {"name": "find_hat", "description": "Use this to find a hat.", "parameters": parameters}
    page.fill("#tools", json.dumps([tool]))
    ask(page, "Please find a hat with owner Ann.")
    result = page.get_by_label("Result of find_hat")
    result.wait_for(timeout=SECONDS)
    result.fill("<img src=x onerror=document.title='forged'>")
    result.press("Enter")
    answered(page)
    assert page.locator(".result code").inner_text() == "<img src=x onerror=document.title='forged'>"
    assert page.title() == "tiny-caller"


def test_what_is_wrong_is_said(page: Any) -> None:
    page.locator("#settings summary").click()
    for tools, why in (("{", "JSON"), ("{}", "must be a JSON list")):
        page.fill("#tools", tools)
        ask(page, "Hi.")
        answered(page)
        assert why in page.locator(".error").last.inner_text()


def test_a_key(browser: Any, start: Any) -> None:
    with start(key="s3cret") as server:
        page = browser.new_page()
        page.goto(server.url)
        playwright.expect(page.locator(".error")).to_contain_text("send Authorization: Bearer KEY")
        page.fill("#key", "s3cret")
        page.locator("#key").blur()
        playwright.expect(page).to_have_title("tiny-caller")
        ask(page, QUESTION)
        answered(page)
        assert page.locator(".assistant").inner_text() == "The age is 68."
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_any_width_and_scheme(browser: Any, server: Any, scheme: str, width: int) -> None:
    """Nothing runs off the side, and axe finds nothing."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 740}, bypass_csp=True)
    page = context.new_page()
    page.goto(server.url)
    ask(page, QUESTION + " " + "x" * 80)
    answered(page)
    page.locator("#settings summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    context.close()
