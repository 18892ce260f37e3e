"""Hooks of mkdocs: pages that live elsewhere in the repository, and links that leave docs/.

The README and its like are pages of the site as they stand. A link to a file that is no page
becomes its path; one to a file that does not exist is a warning, and so an error of ``make docs``.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Name in the site, and where the page lives.
PAGES = {
    "index.md": "README.md",
    "benchmarks-commands.md": "benchmarks/README.md",
    "conformance.md": "tests/conformance/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
}
HOMES = {home: name for name, home in PAGES.items()}
LINK = re.compile(r"(!?)\[([^]]*)\]\(([^)\s]+)\)")
log = logging.getLogger("mkdocs.hooks.trellic")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Bring in the pages that live outside of docs/."""
    for name, home in PAGES.items():
        content = (ROOT / home).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links as they are in the repository into links of the site."""
    here = page.file.src_uri
    home = PAGES.get(here, f"docs/{here}")

    def link(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        there = normpath(join(dirname(home), path))
        if (ROOT / there / "README.md").is_file():
            there += "/README.md"
        name = HOMES.get(there) or there.removeprefix("docs/")
        if name in PAGES or (there.startswith("docs/") and (ROOT / there).is_file()):
            anchor = f"#{anchor}" if anchor else ""
            return f"{mark}[{text}]({relpath(name, dirname(here) or '.')}{anchor})"
        if not (ROOT / there).exists():
            log.warning("%s: links to %s, which does not exist", home, there)
        return f"{text} (`{there}`)"

    return LINK.sub(link, markdown)
