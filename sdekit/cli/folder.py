"""The directory a demo writes to: whole files only, and a list of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InvalidArgument

MARK = ".sdekit-demo"
"""The file that names what a demo has written: a directory that holds it may be written to again."""


class Folder:
    """A demo's directory.

    It is made where there is none; one that a demo made before is emptied of the files that this demo wrote, and of
    nothing else. Raises InvalidArgument for a file in its place, and for a directory that holds other things, unless
    ``force``, which writes among them.
    """

    def __init__(self, path: Path, force: bool = False):
        self.path = path
        if path.exists() and not path.is_dir():
            raise InvalidArgument(f"--out: must be a directory, got the file {path}")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidArgument(f"--out: must be a directory that can be made, got {path}: {error}") from error
        mark = path / MARK
        if mark.exists():
            for name in mark.read_text().splitlines():
                self._remove(name)
        elif not force and any(not (entry / MARK).exists() for entry in path.iterdir()):
            raise InvalidArgument(
                f"--out: {path} must be empty or made by this demo, got a directory that holds other files; "
                "give another one, or --force to write among them"
            )
        self.files: list[str] = []
        mark.write_text("")

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write to, which takes the place of the file ``name`` once the block has ended well."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}")
        # the suffix stays: it tells what kind of file to write
        temporary = temporary.with_name(f"{temporary.stem}.part{temporary.suffix}")
        try:
            yield temporary
            if name not in self.files:
                with (self.path / MARK).open("a") as mark:
                    mark.write(f"{name}\n")
                self.files.append(name)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def text(self, name: str, content: str) -> None:
        """Writes a text file."""
        with self.writing(name) as path:
            path.write_text(content, encoding="utf-8")

    def json(self, name: str, content: Any) -> None:
        """Writes a JSON file."""
        self.text(name, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def _remove(self, name: str) -> None:
        # the folder is resolved, the file is not: where it has become a link, the link is ours and its target is not
        path = (self.path / name).parent.resolve() / Path(name).name
        if self.path.resolve() in path.parents and (path.is_symlink() or path.is_file()):
            path.unlink()
            if path.parent != self.path.resolve() and not any(path.parent.iterdir()):
                path.parent.rmdir()
