"""Where the registry's versions lie, and how a person may name one. Reads names only."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tft_core.checkpoint_manager.fields import MODEL_TYPE_PATTERN
from tft_core.checkpoint_manager.manifest import mode_of, readable
from tft_core.errors import CheckpointError

VERSION_DIR = re.compile(r"v([1-9][0-9]{0,8})_([0-9]{8}T[0-9]{6}Z)")


def local_root(root: str | os.PathLike[str]) -> Path:
    """The registry's directory.

    Raises:
        CheckpointError: It is a URL, which as a path would be a folder of that name here.
    """
    text = os.fspath(root) if isinstance(root, str | os.PathLike) else str(root)
    if "://" in text:
        raise CheckpointError(
            f"the registry must be a directory of a POSIX file system, found {text}; its "
            "atomic renames and locks are not to be had there"
        )
    return Path(text)


@dataclass(frozen=True, slots=True)
class Layout:
    """``{root}/{model_type}/v{version}_{timestamp}/``."""

    root: Path

    def folder(self, model_type: str) -> Path:
        """Where the versions of a model type lie, whether there are any or not.

        Raises:
            CheckpointError: No model type is spelt so.
        """
        if not MODEL_TYPE_PATTERN.fullmatch(model_type):
            raise CheckpointError(
                f"model_type must be lower-case letters, digits and _, found {model_type!r}"
            )
        return self.root / model_type

    def model_types(self) -> list[str]:
        """Model types that have a folder, in alphabetic order."""
        with readable(self.root):
            if not self.root.is_dir():
                return []
            return sorted(
                entry.name
                for entry in self.root.iterdir()
                if entry.is_dir() and MODEL_TYPE_PATTERN.fullmatch(entry.name)
            )

    def versions(self, model_type: str) -> list[tuple[int, Path]]:
        """(version, directory) of everything named like a version, ascending."""
        folder = self.folder(model_type)
        with readable(folder):
            if not folder.is_dir():
                return []
            found = [(VERSION_DIR.fullmatch(entry.name), entry) for entry in folder.iterdir()]
        return sorted((int(match[1]), entry) for match, entry in found if match)

    def directories(self, model_type: str | None = None) -> list[Path]:
        """Directories of the versions of one model type, or of all, ascending in each."""
        kinds = [model_type] if model_type else self.model_types()
        return [directory for kind in kinds for _, directory in self.versions(kind)]

    def existing(self, directory: Path) -> Path:
        """The directory, if there is anything by its name.

        Raises:
            CheckpointError: There is nothing.
        """
        if mode_of(directory) is None:
            raise CheckpointError(
                f"a checkpoint must exist at {directory}, found {self.what_exists()} in "
                f"{self.root}; `tft checkpoints list` shows them"
            )
        return directory

    def resolve(self, target: str | os.PathLike[str] | int, model_type: str) -> Path:
        """The directory meant by a path, a directory name, ``3`` or ``"v3"``.

        Raises:
            CheckpointError: No version is meant by it, or two are.
        """
        folder = self.folder(model_type)
        text = str(target).removeprefix("v")
        if text.isdecimal():
            matches = [path for number, path in self.versions(model_type) if number == int(text)]
            if len(matches) == 1:
                return matches[0]
            raise CheckpointError(
                f"version must be one of {model_type!r}, found {target} "
                f"{'more than once in' if matches else 'but only'} {self.what_exists()} in "
                f"{self.root}; `tft checkpoints list` shows them"
            )
        given = Path(str(target))
        path = given if len(given.parts) > 1 else folder / given
        self.existing(path)
        if path.resolve().parent != folder.resolve() or not VERSION_DIR.fullmatch(path.name):
            raise CheckpointError(
                f"only a version under {folder} can be promoted, found {path}; save it there first"
            )
        return folder / path.name

    def what_exists(self) -> str:
        """The newest versions in words, for messages."""
        names = [f"{path.parent.name}/{path.name}" for path in self.directories()]
        if not names:
            return "no version"
        return ", ".join(names[-5:]) + (f" and {len(names) - 5} older" if len(names) > 5 else "")
