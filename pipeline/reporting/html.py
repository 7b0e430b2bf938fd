"""HTML page of the report: reports/index.html, one file that loads nothing, light or dark as the screen."""

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from pipeline.reporting.figures import style
from pipeline.reporting.page import PageSection, made_by, not_run

TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
FULL = style.WIDTH * style.DPI
"""Pixels of a PNG that fills the page; a narrower one fills less, so that all texts have one size."""
COLOURS = {
    "ground": ("#ffffff", "#16181d"),
    "ink": (style.INK, "#e8e8e6"),
    "soft": (style.GREY, "#a3a8b0"),
    "rule": (style.RULE, "#343941"),
}
"""The neutral colours of page and figures alike, on a light screen and on a dark one."""


def html_page(title: str, parts: Sequence[PageSection], figures: Path) -> str:
    """The page as HTML with every picture in it; the same parts give the same bytes.

    Args:
        parts: the page's parts; their texts are Markdown, escaped where they hold HTML.
        figures: the folder of the pictures.
    """
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"markdown": _markdown, "anchor": _anchor, "line": _line}
    environment.globals |= {
        "made_by": made_by,
        "not_run": not_run,
        "uri": lambda name: uri(figures / name),
        "still": lambda name: still(figures / name),
        "moves": lambda name: _moves(figures / name),
        "share": lambda name: _share(figures / name),
        "colours": COLOURS,
    }
    return environment.get_template("page.html.j2").render(title=title, parts=parts)


def uri(path: Path) -> str:
    """A picture as a data URI; a vector one with the colours that it has on a dark page."""
    content = path.read_bytes()
    if path.suffix == ".svg":
        content = _themed(content.decode()).encode()
    return _uri(content, TYPES[path.suffix])


def still(path: Path) -> str:
    """The last frame of an animation as a data URI, for readers who ask for no motion."""
    with Image.open(path) as image:
        image.seek(image.n_frames - 1)  # type: ignore[attr-defined]
        out = io.BytesIO()
        image.save(out, "PNG")
    return _uri(out.getvalue(), TYPES[".png"])


def _moves(path: Path) -> bool:
    with Image.open(path) as image:
        return getattr(image, "n_frames", 1) > 1


def _share(path: Path) -> str:
    """The share of the page's width that a picture takes."""
    with Image.open(path) as image:
        return f"{min(1.0, image.width / FULL):.3f}"


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _themed(svg: str) -> str:
    """An SVG whose neutral colours, written as matplotlib writes them, follow the reader's colour scheme."""
    rules = "".join(
        f'[style*="{kind}: {light.lower()}"]{{{kind}:{dark} !important}}'
        for light, dark in COLOURS.values()
        for kind in ("fill", "stroke")
    )
    themed = f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", lambda match: match[1] + themed, svg, count=1)


_RENDERER = MarkdownIt("commonmark", {"html": False}).enable("table")


def _markdown(text: str) -> Markup:
    """Markdown as HTML, each table in a box that scrolls by itself."""
    html = _RENDERER.render(text)
    html = html.replace(
        "<table>", '<div class="scroll" tabindex="0" role="region" aria-label="table"><table>'
    )
    return Markup(html.replace("</table>", "</table></div>"))


def _line(text: str) -> Markup:
    return Markup(_RENDERER.renderInline(text))


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
