"""The museum's page, written from the exhibits: ``python tests/museum/page.py`` writes docs/museum.md."""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "museum.md"

HEAD = """# The museum of slips

Each exhibit is a mistake that was made elsewhere, with its source. Here it is made again, in sdekit: one line of the
running package is exchanged for the wrong one, and a test of the ordinary suite, the exhibit's *law*, must fail.
Without the slip the same law holds. Both are run on every commit:

```bash
pytest tests/museum
```

This page is written from the exhibits by `tests/museum/page.py`, and a test compares the two.
[Spot the bug](spot-the-bug.md) tells sixteen such stories at more length. The catalogue has {rows} rows: {exhibits} are
exhibits, and {others} are [not on show](#not-on-show).
"""


def law_name(exhibit) -> str:
    """module::test of an exhibit's law."""
    return f"{exhibit.law.func.__module__}.{exhibit.law.func.__name__}"


def render() -> str:
    """The page."""
    from exhibits import EXHIBITS, OUT_OF_SCOPE, ROWS, SECTIONS

    parts = [HEAD.format(rows=len(ROWS), exhibits=len(EXHIBITS), others=len(OUT_OF_SCOPE))]
    for letter, title in SECTIONS.items():
        parts.append(f"## {title}\n")
        for e in EXHIBITS:
            if e.id[0] == letter:
                parts.append(
                    f"### {e.id}\n\n{e.story} *{e.source}.*\n\n"
                    f'```diff title="{e.slip.name}"\n- {e.slip.right}\n+ {e.slip.wrong}\n```\n\n'
                    f"Caught by `{law_name(e)}`.\n"
                )
    parts.append("## Not on show\n\n| row | why |\n|---|---|")
    parts.extend(f"| {row} | {why} |" for row, why in OUT_OF_SCOPE.items())
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    PAGE.write_text(render(), encoding="utf-8")
