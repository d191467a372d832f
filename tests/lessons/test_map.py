"""lessons/README.md and the glossary say what the lessons say."""

import math
import re
from pathlib import Path

import pytest

from lessons import check

ROOT = Path(__file__).resolve().parents[2]

MAP = (ROOT / "lessons/README.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "lessons/glossary.md").read_text(encoding="utf-8")
ENTRY = re.compile(r"^- \*\*(.+?)\*\*: .+ \(\[lesson (\d+)\]\((\d\d_\w+)\.py(?:#([\w-]+))?\)\)$")


def minutes(text: str) -> int:
    """As the map says: 200 words of prose or 10 lines of code in each, in steps of five."""
    needed = 0.0
    for cell in re.split(r"^# %%", text, flags=re.M)[1:]:
        head, _, body = cell.partition("\n")
        if "[markdown]" in head:
            needed += len(re.sub(r"^# ?", "", body, flags=re.M).split()) / 200
        else:
            needed += sum(bool(line.strip()) for line in body.splitlines()) / 10
    return math.ceil(needed / 5) * 5


@pytest.mark.parametrize("lesson", check.lessons())
def test_the_map_has_a_row_for_each_lesson(lesson: str) -> None:
    text = (ROOT / "lessons" / f"{lesson}.py").read_text(encoding="utf-8")
    title = re.search(r"^# # (.+)$", text, flags=re.M)
    question = re.search(r"^# \*([^*]+\?)\*$", text, flags=re.M)
    assert title
    assert question
    row = rf"^\| \[{re.escape(title[1])}\]\({lesson}\.py\) \| {re.escape(question[1])} \| [–\d, ]+ \| (\d+) \|$"
    found = re.search(row, MAP, flags=re.M)
    assert found, f"no row with {title[1]} and {question[1]}"
    assert abs(int(found[1]) - minutes(text)) <= 5, f"{lesson} takes {minutes(text)} minutes"


def test_the_map_names_every_item_of_the_course() -> None:
    rows = re.findall(r"^\| \[\d.*\| ([–\d, ]+) \| \d+ \|$", MAP, flags=re.M)
    assert len(rows) == len(check.lessons())
    items = re.findall(r"^(\d)\. ", MAP.partition("## What the course teaches")[2], flags=re.M)
    assert items == [str(number) for number in range(1, 8)]
    assert set(re.findall(r"\d", " ".join(rows))) <= set(items)


def test_the_glossary_leads_to_where_a_term_is_explained() -> None:
    entries = [line for line in GLOSSARY.splitlines() if line.startswith("- ")]
    terms = []
    for line in entries:
        entry = ENTRY.match(line)
        assert entry, f"not an entry: {line}"
        term, number, lesson, heading = entry.groups()
        assert int(number) == int(lesson[:2]), line
        text = (ROOT / "lessons" / f"{lesson}.py").read_text(encoding="utf-8")
        prose = " ".join(re.sub(r"^# ?", "", text, flags=re.M).lower().split())
        assert all(word.lower() in prose for word in term.replace("`", "").split(", ")), f"{lesson} does not say {term}"
        headings = [re.sub(r"[^\w\s-]", "", h).strip().lower() for h in re.findall(r"^# ##+ (.+)$", text, flags=re.M)]
        assert heading is None or heading in [re.sub(r"[\s-]+", "-", h) for h in headings], line
        terms.append(term.lower().replace("`", ""))
    assert terms == sorted(terms), "in the order of the alphabet"


def test_the_lines_that_show_an_item_of_the_course_stand_in_their_lessons() -> None:
    rows = re.findall(r"^\| (\d) \| \[\d+\]\((\d\d_\w+)\.py\) \| .+ \| `(assert .+)` \|$", MAP, flags=re.M)
    assert {item for item, _, _ in rows} == {str(number) for number in range(1, 8)}
    assert len(rows) == MAP.count("| `assert ")
    for _, lesson, line in rows:
        assert line in (ROOT / "lessons" / f"{lesson}.py").read_text(encoding="utf-8"), f"{lesson}: {line}"
