"""The page in one file: complete, with nothing to load, and as a browser shows it."""

import base64
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from pipeline.reporting import page as pages
from pipeline.reporting.figures.style import FigureEntry, Picture
from pipeline.reporting.page import PageSection
from tests.reporting import browser

MOST = 3_000_000
VOID = {"meta", "img", "source", "br", "hr", "link", "input"}
LOADING = {"src", "srcset", "poster", "data", "action", "background"}


class Read(HTMLParser):
    """A page's elements, each closed in turn, and what they would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.loads += [value or ""] if name in LOADING else []
            self.ids += [value or ""] if name == "id" else []
            self.links += [value or ""] if name == "href" else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"


@pytest.fixture(scope="module")
def text(reports: Path) -> str:
    return (reports / "index.html").read_text(encoding="utf-8")


def whole(text: str) -> Read:
    """Read a page as the tests below want it, without a browser: well formed, and with nothing to load."""
    page = Read(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert len(page.ids) == len(set(page.ids))
    assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))
    assert not [uri[:80] for uri in page.loads if not uri.startswith("data:image/")]
    assert not re.search(r"@import|url\(", text)
    for uri in page.loads:
        content = base64.b64decode(uri.split(",", 1)[1], validate=True)
        if uri.startswith("data:image/svg"):
            assert ElementTree.fromstring(content).tag.endswith("svg")
        else:
            Image.open(BytesIO(content)).load()
    return page


def test_the_page_is_well_formed_and_loads_nothing(text: str) -> None:
    page = whole(text)
    assert "default-src 'none'" in text and len(text.encode()) < MOST
    assert page.tags.count("img") == len(set(page.loads)) - 1, "each picture once, and a still of the moving one"


@pytest.mark.parametrize(
    "fault",
    [
        '<img src="https://example.org/a.png">',
        "<script>1</script>",
        "<b><i></b></i>",
        '<p id="training"></p>',
        '<a href="#nowhere">x</a>',
        '<img src="data:image/png;base64,AAAA">',
    ],
)
def test_the_reading_catches_a_planted_fault(text: str, fault: str) -> None:
    with pytest.raises((AssertionError, OSError)):
        whole(text.replace("</main>", f"{fault}</main>"))


def test_the_page_says_what_the_readme_says(text: str, reports: Path) -> None:
    readme = (reports / "README.md").read_text()
    titles = re.findall(r"^## (.*)$", readme, re.M)
    assert re.findall(r"<h2>(.*?)</h2>", text) == titles
    numbers = re.findall(r"\d+\.\d+", readme.split("## Samples")[0])
    assert len(numbers) > 50 and all(number in text for number in numbers)
    figures = {path.stem for path in (reports / "figures").iterdir()}
    assert text.count("<img ") == len(figures), "a figure that the page does not show"


def test_the_page_opens_with_the_best_row_and_folds_what_is_not_the_result(text: str, reports: Path) -> None:
    hero = text.split("<section")[1]
    assert "<h2>What was found</h2>" in hero and "<img " in hero and (reports / "figures/hero.png").exists()
    assert "<code>tuned</code> with denoising: FID 1.73 (1.18 times that of real images), at 81 network" in hero
    folded = [section for section in text.split("<section")[1:] if "<details>" in section]
    opened = [section for section in text.split("<section")[1:] if "<details>" not in section]
    titles = ["What was found", "The table", "Samples next to real images", "From noise to data", "Images completed"]
    assert [re.findall("<h2>(.*?)</h2>", section)[0] for section in opened][:5] == titles
    assert "The evaluator's self-test" not in titles and len(folded) > 8
    assert re.findall("<li><strong>(.*?)</strong>", text) == ["Result", "Searches", "Background"]


def test_every_line_figure_is_vector_and_follows_the_colour_scheme(reports: Path) -> None:
    for name in ("loss", "frontier", "samples"):
        uri = pages.uri(reports / f"figures/{name}.svg")
        svg = base64.b64decode(uri.split(",")[1]).decode()
        assert svg.count("prefers-color-scheme:dark") == 1
        for light, dark in pages.COLOURS.values():
            assert f"fill: {light.lower()}" in svg or f"stroke: {light.lower()}" in svg, light
            assert dark in svg


def test_what_is_missing_is_left_out_or_says_its_command(write: Callable[..., Path], artifacts: Path) -> None:
    (artifacts / "frontier/frontier.csv").unlink()
    (artifacts / "tune_sampler/trials.csv").unlink()
    (artifacts / "samples/ncsn/intermediate.npy").unlink()
    for path in artifacts.glob("samples/*/inpainting.npy"):
        path.unlink()
    found = (write() / "index.html").read_text()
    whole(found)
    assert "Images completed" not in found and "network evaluations per sample" not in found
    for command in ("tune_sampler", "toy", "generate@ncsn"):
        assert f"not run: <code>dvc repro {command}</code>" in found


def test_a_column_without_a_value_is_left_out(write: Callable[..., Path], artifacts: Path) -> None:
    found = write("ncsn").joinpath("README.md").read_text()
    assert "| MLflow run |" not in found and "| Checkpoint |" not in found, "no run and no network is known"
    assert "| ρ |" not in found and "| Levels L |" in found, "of Langevin dynamics alone"
    assert "| MLflow run |" in write().joinpath("README.md").read_text(), "tuned has one"
    assert "KID &" in write().joinpath("table.tex").read_text()
    for path in artifacts.glob("evaluation/*.json"):
        path.unlink()
    unmeasured = write().joinpath("table.md").read_text()
    assert "| KID |" not in unmeasured and "not run: `dvc repro evaluate@ncsn`" in unmeasured
    assert "KID &" not in write().joinpath("table.tex").read_text()


def test_names_that_look_like_html_stay_text(tmp_path: Path) -> None:
    bad = '<img src="https://example.org/x">'
    shown = FigureEntry(bad, f"*{bad}*", "c", (Picture(label=bad),))
    made = pages.html_page(bad, [PageSection(bad, f"| {bad} |\n| :-- |\n| `{bad}` |", shown)], tmp_path)
    assert "<img" not in made and made.count("&lt;img") >= 6
    whole(made)


@pytest.fixture(scope="module")
def page(reports: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page | None]:
    """The page in a real browser; None where none is installed."""
    program = browser.installed()
    if program is None:
        yield None
        return
    with browser.opened(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_a_browser_shows_it_without_complaint(
    page: browser.Page | None,
    width: int,
    scheme: str,
    reports: Path,
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if page is None:
        with capsys.disabled():
            print("no Chromium here: the page is parsed, not shown", end=" ")  # noqa: T201
        whole(text)
        return
    page.look(width, scheme=scheme)
    page.open((reports / "index.html").as_uri())
    assert page.complaints() == []
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth") == width, "the page is wider than the screen"
    wide = "[...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth).length"
    assert width > 600 or page.evaluate(wide) > 5, "on a phone what is wide scrolls in its own box"
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true), 1")
    page.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1))))")
    style = "getComputedStyle(b, '::before')"
    hint = "(h => h.fontSize != '0px' && h.display == 'block' && h.content != 'none')(" + style + ")"
    wrong = f"[...document.querySelectorAll('.scroll')].filter(b => {hint} != (b.scrollWidth > b.clientWidth)).length"
    assert page.evaluate(wrong) == 0, "told to scroll where there is nothing to, or not told where there is"
    page.screenshot(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as shot:
        ground = shot.convert("RGB").getpixel((2, 2))
        assert shot.size[0] == width and shot.size[1] > 3000
    light, dark = pages.COLOURS["ground"]
    assert "#{:02x}{:02x}{:02x}".format(*ground) == (dark if scheme == "dark" else light)


def test_who_asks_for_no_motion_sees_the_last_frame(page: browser.Page | None, reports: Path) -> None:
    shown = pages.still(reports / "figures/from_noise.png")
    if page is None:
        assert shown in (reports / "index.html").read_text()
        return
    for motion, still in (("reduce", True), ("no-preference", False)):
        page.look(1280, motion=motion)
        page.open((reports / "index.html").as_uri())
        current = page.evaluate("document.querySelector('picture img').currentSrc")
        assert (current == shown) is still


@pytest.mark.parametrize(
    "fault",
    [
        '<img src="https://example.invalid/a.png">',
        "<script>1</script>",
        '<link rel="stylesheet" href="a.css">',
        '<img src="missing.png">',
    ],
)
def test_the_browser_catches_a_planted_fault(page: browser.Page | None, fault: str, text: str, tmp_path: Path) -> None:
    planted = text.replace("</main>", f"{fault}</main>")
    if page is None:
        with pytest.raises(AssertionError):
            whole(planted)
        return
    (tmp_path / "index.html").write_text(planted, encoding="utf-8")
    page.look(1280)
    page.open((tmp_path / "index.html").as_uri())
    assert page.complaints()
