"""Hooks of the documentation's site: generated reference pages, API pages, links to the repository's files.

A comment `<!-- generated: NAME -->` in a page is replaced by a table. A link that leaves docs/ is followed:
the file is copied into the site. So each page reads the same on the site and in the repository.
"""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import reference  # noqa: E402  (docs/_site/reference.py)

LINK = re.compile(r"(?<=\]\()((?:\.\./)+[^)#\s]+)(?=[)#])")
MARK = re.compile(r"<!-- generated: (\w+) -->")


def on_config(config: Any) -> None:
    """Fill the navigation's entry `API`, a page for each package."""
    section = next(part["Reference"] for part in config["nav"] if "Reference" in part)
    entry = next(page for page in section if isinstance(page, dict) and "API" in page)
    entry["API"] = [{name: f"reference/api/{name}.md"} for name in reference.packages()]


def on_files(files: Files, config: Any) -> None:
    """Add the API pages."""
    for name, text in reference.packages().items():
        files.append(File.generated(config, f"reference/api/{name}.md", content=text))


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Put generated tables in, and copy what a link outside docs/ names."""
    text = MARK.sub(lambda found: getattr(reference, found[1])(), markdown)
    return LINK.sub(lambda found: _inside(found[1], page.file.src_uri, config, files), text)


def _inside(target: str, page: str, config: Any, files: Files) -> str:
    """A link as it reads on the site: to the copy, where the file lies outside docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    if path.startswith("docs/") or not (ROOT / path).is_file():
        return target
    copy = f"repository/{path}" + (".txt" if path.endswith((".md", ".yaml", ".py")) else "")
    if files.get_file_from_path(copy) is None:
        files.append(File.generated(config, copy, abs_src_path=str(ROOT / path)))
    return posixpath.relpath(copy, posixpath.dirname(page) or ".")
