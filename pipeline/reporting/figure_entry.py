"""What the page knows of a figure: its words, its files, and what to run where there are none."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from pipeline.reporting import style


@dataclass(frozen=True)
class Picture:
    """One picture of a figure, or the place of one whose stage has not run."""

    files: tuple[str, ...] = ()
    """File names in the figures folder, the PNG first; empty where the stage has not run."""
    label: str = ""
    """What tells it from the figure's other pictures."""


@dataclass(frozen=True)
class Shown:
    """A figure of the page, of one picture or several."""

    title: str
    caption: str
    command: str
    """What makes its data; of one picture alone: with @ and the label."""
    pictures: tuple[Picture, ...]

    @property
    def drawn(self) -> bool:
        """Whether there is any picture."""
        return any(picture.files for picture in self.pictures)


def keep(made: Figure, folder: Path, name: str, *, label: str = "") -> Picture:
    """Save a figure as name.png and name.svg."""
    return Picture(tuple(style.save(made, folder, name)), label)
