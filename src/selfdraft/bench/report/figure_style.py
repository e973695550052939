"""How figures look: readable in black and white, in print and on a page.

Methods differ by hatch or marker as well as by shade. Bars start at 0. Nothing is drawn that was
not measured.
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfdraft.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Dark and light in turn, so that neighbours differ in print; the hue is an extra.
SHADES = ("#5f86ad", "#cfe0ee", "#7f9f62", "#dfe6c8", "#b5705f", "#f0c9a8", "#777777", "#cfcfcf")
HATCHES = ("", "//", "xx", "..", "\\\\", "--", "++", "oo")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")

_PARAMETERS: dict[Any, Any] = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "path",  # the same everywhere, whatever fonts a reader has
    "svg.hashsalt": "selfdraft",  # equal figures are equal files
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """One finished figure, as bytes."""

    name: str
    title: str
    caption: str
    png: bytes
    svg: bytes

    @property
    def data_uri(self) -> str:
        """The picture inside a page that needs no other file."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")

    def write(self, folder: Path) -> list[Path]:
        """Write both files; their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for suffix, content in ((".png", self.png), (".svg", self.svg)):
            paths.append(folder / f"{self.name}{suffix}")
            paths[-1].write_bytes(content)
        return paths


@contextmanager
def styled_figure(width: float, height: float) -> Iterator["tuple[Figure, Axes]"]:
    """A figure of so many inches with our style, for the block.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "figures need matplotlib: pip install 'selfdraft[bench]', or matplotlib itself"
        ) from error
    # A figure of its own, without pyplot: no window, no state that stays behind.
    with mpl.rc_context(_PARAMETERS):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def finish(figure: "Figure", name: str, title: str, caption: str) -> Drawing:
    """The figure as PNG and SVG; to be called while its style holds."""
    contents: dict[str, bytes] = {}
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        # Without the date, so that the same results give the same file.
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
        contents[kind] = buffer.getvalue()
    return Drawing(name, title, caption, contents["png"], contents["svg"])


def count_on_x(axes: "Axes") -> None:
    """Whole numbers on the x axis: there is no half token, depth or prompt."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def looks(names: Sequence[str]) -> Mapping[str, dict[str, Any]]:
    """For each name a shade and a hatch that no other has; the same order, the same look."""
    return {
        name: {
            "facecolor": SHADES[i % len(SHADES)],
            "hatch": HATCHES[i % len(HATCHES)],
            "edgecolor": "#222222",
        }
        for i, name in enumerate(names)
    }


def line_looks(names: Sequence[str]) -> Mapping[str, dict[str, Any]]:
    """For each name a shade dark enough for a line, a marker and a dash."""
    dark = ("#1f3b57", "#8a3b2b", "#5d7f3f", "#777777", "#b07a1e", "#5b3f7f", "#2f7f86", "#111111")
    return {
        name: {
            "color": dark[i % len(dark)],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": LINES[i % len(LINES)],
        }
        for i, name in enumerate(names)
    }
