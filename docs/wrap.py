"""Wrap the pages at 100 columns, or name the lines that are longer.

::

    python docs/wrap.py [--check] [PAGE...]

Paragraphs and list items are wrapped. Code, tables, headings, HTML and link definitions stay as
they are. Inline code and links are not broken, so a line of one such piece may be longer.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 100
GENERATED = ROOT / "docs" / "universal" / "report.md"
HELD = "\0"  # stands for a space that does not break
_WHOLE = re.compile(r"(`+)[^`].*?\1|!?\[[^\]]*\]\([^)\s]*\)")
_MARKER = re.compile(r"(\s*(?:[-*+]|\d+[.)])\s+)(.*)")
_VERBATIM = re.compile(r"\s*(:::|\||#|<|>|!!!|\[[^\]]+\]: |[-=*_]{3,}$|\$\$|!\[)")
_LOOKS_LIKE_MARKUP = re.compile(rf"(?:[-+*=#>|]+|\d+[.)])(?={HELD}|\s|$)")


def pages() -> list[Path]:
    """Return the pages that are wrapped."""
    return sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")} - {GENERATED})


def wrapped(text: str) -> str:
    """Return a page with its paragraphs wrapped."""
    return "\n".join(line for block in _blocks(text.split("\n")) for line in block)


def long_lines(text: str) -> list[str]:
    """Return the lines that could be shorter."""
    new = wrapped(text).split("\n")
    return [line for line in text.split("\n") if len(line) > WIDTH and line not in new]


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Yield each line that stays as it is, and each paragraph wrapped."""
    fence, marked = "", False
    paragraph: list[str] = []
    for line in lines:
        opens = re.match(r"\s*(```+|~~~+|---$)", line) if fence or not paragraph else None
        opens = opens or re.match(r"\s*(```+|~~~+)", line)
        comment = re.match(r"<!-- (table:|end of table)", line)
        verbatim = bool(fence or opens or marked or comment or not line.strip())
        verbatim = verbatim or bool(_VERBATIM.match(line)) or (not paragraph and line[:4] == "    ")
        if paragraph and (verbatim or _MARKER.match(line)):
            yield _filled(paragraph)
            paragraph = []
        if opens and opens[1] != "---":
            fence = "" if fence and opens[1].startswith(fence) else fence or opens[1]
        if comment:
            marked = comment[1] == "table:"
        if verbatim:
            yield [line]
        else:
            paragraph.append(line)
    if paragraph:
        yield _filled(paragraph)


def _filled(paragraph: list[str]) -> list[str]:
    found = _MARKER.match(paragraph[0])
    indent = " " * (len(paragraph[0]) - len(paragraph[0].lstrip()))
    first, rest = (found[1], found[2]) if found else (indent, paragraph[0].strip())
    text = " ".join([rest, *(line.strip() for line in paragraph[1:])])
    text = _WHOLE.sub(lambda part: part[0].replace(" ", HELD), text)
    text = re.sub(rf" (?={_LOOKS_LIKE_MARKUP.pattern})", HELD, text)
    after = " " * len(first) if found else indent
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=after,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(HELD, " ") for line in lines]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Wrap the pages at 100 columns.")
    parser.add_argument("pages", type=Path, nargs="*")
    parser.add_argument("--check", action="store_true", help="only name the lines that are longer")
    options = parser.parse_args()
    bad = 0
    for page in options.pages or pages():
        text = page.read_text(encoding="utf-8")
        if not options.check:
            page.write_text(wrapped(text), encoding="utf-8")
        for line in long_lines(text) if options.check else ():
            bad += 1
            print(f"{page}: {line[:60]}...")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
