"""The page that shows a demo: one HTML file beside its pictures, complete at every moment of the run."""

from __future__ import annotations

import platform
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import torch

from .. import __version__
from .folder import Folder

RUNNING = "The demo is still running; this page shows what is done so far."

CSS = """
:root { --paper: #ffffff; --ink: #1c2127; --muted: #5c6672; --rule: #dde2e8; --wash: #f5f7f9; --accent: #0072b2; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #121212; --ink: #e4e7eb; --muted: #9aa4b0; --rule: #2c3238; --wash: #1b1e22; --accent: #6cb6e6; }
  img { filter: invert(0.93) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 17px/1.6 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 3rem 1.25rem 5rem; }
p, ul, h1, h2, .lead { max-width: 44rem; }
h1 { font-size: 2.1rem; line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 0.75rem; }
h3 { font-size: 1.02rem; margin: 1.75rem 0 0.5rem; }
h2 { font-size: 1.35rem; line-height: 1.25; letter-spacing: -0.01em; margin: 3.5rem 0 0.5rem; }
.lead { font-size: 1.12rem; color: var(--muted); margin: 0 0 1.5rem; }
.status { padding: 0.6rem 0.9rem; border-left: 3px solid #d55e00; background: var(--wash); }
.facts { display: flex; flex-wrap: wrap; gap: 0.75rem 2.25rem; padding: 1rem 0; margin: 1.5rem 0 0; border: solid var(--rule); border-width: 1px 0; }
.facts div { font-size: 0.85rem; line-height: 1.35; color: var(--muted); }
.facts b { display: block; font-size: 1.3rem; font-weight: 600; color: var(--ink); font-variant-numeric: tabular-nums; }
figure { margin: 1.5rem 0; }
.frame { overflow-x: auto; }
img { display: block; max-width: 100%; height: auto; }
.wide img { min-width: 40rem; }
figcaption { font-size: 0.88rem; line-height: 1.5; color: var(--muted); margin-top: 0.5rem; max-width: 44rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 45%), 1fr)); gap: 1.25rem; margin: 1rem 0 2rem; }
.cards figure { margin: 0; }
.cards figcaption b, .pair figcaption b { display: block; color: var(--ink); font-weight: 600; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(16rem, 100%), 1fr)); gap: 1.5rem; }
.pair figure { margin: 0; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; width: 100%; max-width: 46rem; }
caption { text-align: left; color: var(--muted); font-size: 0.88rem; padding-bottom: 0.4rem; }
th, td { padding: 0.32rem 0.9rem 0.32rem 0; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-weight: 500; color: var(--muted); }
th:first-child, td:first-child, .text td, .text th { text-align: left; }
.text td { white-space: normal; }
.group th { padding-top: 1.1rem; color: var(--ink); font-weight: 600; text-align: left; }
pre { background: var(--wash); padding: 0.9rem 1rem; overflow-x: auto; font-size: 0.85rem; line-height: 1.5; border-radius: 4px; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 0.92em; }
a { color: var(--accent); }
footer { margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--rule); color: var(--muted); font-size: 0.85rem; }
"""


@dataclass
class Report:
    """A page of sections, of which those that have something to show are shown, in the order of their headings.

    Every change of a section writes the whole page anew, so that it shows what is done whenever the run stops.
    """

    folder: Folder
    title: str
    lead: str
    headings: dict[str, str]
    footer: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    sections: dict[str, dict[str, str]] = field(default_factory=dict)
    begun: float = field(default_factory=time.perf_counter)

    def set(self, key: str, *pieces: str) -> None:
        """Fills a section with pieces of HTML."""
        self.sections[key] = {str(i): piece for i, piece in enumerate(pieces)}
        self.write(RUNNING)

    def add(self, key: str, name: str, piece: str) -> None:
        """Adds a piece of HTML to a section, in the place of the piece of that name if there is one."""
        self.sections.setdefault(key, {})[name] = piece
        self.write(RUNNING)

    @contextmanager
    def running(self) -> Iterator[None]:
        """A run whose page says how it ended, also by Ctrl-C and by an error."""
        where = self.folder.path / "index.html"
        try:
            yield
        except KeyboardInterrupt:
            self.write(f"The demo was interrupted after {self.clock()}; this page shows what was done by then.")
            print(f"\ninterrupted after {self.clock()}; what is done is in {where}", flush=True)
            raise
        except Exception as error:
            self.write(f"The demo ended after {self.clock()} with an error: {error}")
            raise
        self.facts["on this machine"] = self.clock()
        self.write()
        print(f"\ndone in {self.clock()}: open {where}", flush=True)

    def clock(self) -> str:
        """The time since the page was begun, as minutes and seconds."""
        minutes, seconds = divmod(round(time.perf_counter() - self.begun), 60)
        return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"

    def write(self, status: str = "") -> None:
        """Writes the page, with a line on where the run stands unless it has ended well."""
        facts = "".join(f"<div><b>{escape(value)}</b>{escape(name)}</div>" for name, value in self.facts.items())
        body = [f"<h1>{escape(self.title)}</h1>", f'<p class="lead">{self.lead}</p>']
        if status:
            body.append(f'<p class="status" role="status">{escape(status)}</p>')
        if facts:
            body.append(f'<div class="facts">{facts}</div>')
        for key, heading in self.headings.items():
            if key in self.sections:
                pieces = "\n".join(self.sections[key].values())
                body.append(f'<section id="{key}">\n<h2>{escape(heading)}</h2>\n{pieces}\n</section>')
        names = [name for name in self.folder.files if name != "index.html"]
        links = ", ".join(f'<a href="{escape(name)}">{escape(name)}</a>' for name in names)
        body.append(f'<section id="files">\n<h2>Files</h2>\n<p>{links}</p>\n</section>')
        versions = f"sdekit {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
        body.append(f"<footer>{versions}, {torch.get_num_threads()} threads. {self.footer}</footer>")
        self.folder.text(
            "index.html",
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
            + "\n".join(body)
            + "\n</main>\n</body>\n</html>\n",
        )

    def figure(self, name: str, alt: str, caption: str = "", *, wide: bool = False) -> str:
        """A picture of the folder, which opens alone when it is clicked; wide ones scroll on a small screen."""
        width, height = size(self.folder.path / name)
        image = f'<img src="{escape(name)}" alt="{escape(alt)}" width="{width}" height="{height}" loading="lazy">'
        text = f"<figcaption>{caption}</figcaption>" if caption else ""
        kind = ' class="wide"' if wide else ""
        return f'<figure{kind}><div class="frame"><a href="{escape(name)}">{image}</a></div>{text}</figure>'


def paragraph(text: str) -> str:
    """A paragraph; the text is HTML."""
    return f"<p>{text}</p>"


def cards(figures: Sequence[str], kind: str = "cards") -> str:
    """Pictures side by side."""
    return f'<div class="{kind}">' + "\n".join(figures) + "</div>"


def table(caption: str, head: Sequence[str], groups: dict[str, list[list[str]]], kind: str = "") -> str:
    """A table whose rows stand in named groups; ``kind`` is ``"text"`` where its cells are words."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = []
    for group, rows in groups.items():
        if group:
            lines.append(f'<tr class="group"><th scope="colgroup" colspan="{len(head)}">{escape(group)}</th></tr>')
        lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    body = "\n".join(lines)
    return (
        f'<div class="frame"><table class="{kind}"><caption>{caption}</caption><thead><tr>{columns}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def code(text: str) -> str:
    """A block of code."""
    return f"<pre><code>{escape(text)}</code></pre>"


def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG or a GIF, from its first bytes."""
    head = path.read_bytes()[:24]
    if head[:3] == b"GIF":
        width, height = struct.unpack("<HH", head[6:10])
    else:
        width, height = struct.unpack(">II", head[16:24])
    return int(width), int(height)
