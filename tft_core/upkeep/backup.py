"""One file that holds all state, made while the system runs and verified before it counts.

Data bases are copied through their own means (SQLite's backup, the market store under its shared
lock). Everything else is written once and renamed into place, but for pointers to it, which are
read first: what a pointer names is there already.
"""

import hashlib
import io
import json
import os
import secrets
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tft_core.data.connection import without_writers
from tft_core.errors import BackupError
from tft_core.schema import canonical_json, utc_stamp

MANIFEST, FORMAT = "BACKUP.json", 1
STATE, DAGSTER = "state", "dagster"
POINTERS = ("current", "promotions.json")
SQLITE_SUFFIXES = (".db", ".sqlite")
LEFT_OUT_SUFFIXES = (".lock", "-wal", "-shm", "-journal")
LEFT_OUT = {"builder.json", "dagster.yaml"}
"""A running builder's note; Dagster's settings, which are configuration, not state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup file holds."""

    path: Path
    created_at: str
    files: dict[str, str]
    """``state/…`` or ``dagster/…`` → SHA-256."""
    n_bytes: int

    def parts(self) -> set[str]:
        """Which of ``state`` and ``dagster`` it holds files of."""
        return {name.partition("/")[0] for name in self.files}


def back_up(home: Path, target: Path, dagster_home: Path | None = None) -> Backup:
    """Write all state into a new file.

    Args:
        home: The state directory.
        dagster_home: Dagster's own storage; ``None`` leaves it out.

    Raises:
        BackupError: There is nothing to back up, the file exists, or the state changed meanwhile.
        StoreLockedError: A writer holds the market store.
    """
    if not home.is_dir():
        raise BackupError(f"{home} must be a state directory, found none; set $TFT_HOME")
    if target.exists():
        raise BackupError(f"{target} must not exist yet, found a file; choose another name")
    if target.resolve().is_relative_to(home.resolve()):
        raise BackupError(f"{target} must lie outside of the state in {home}; choose another place")
    roots = {STATE: home} | ({DAGSTER: dagster_home} if dagster_home else {})
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with tarfile.open(partial, "x") as archive, tempfile.TemporaryDirectory() as scratch:
            partial.chmod(0o600)
            # Dagster's events first: an artifact newer than they are is made again, no more
            for name in sorted(roots):
                _add_root(archive, roots[name], name, Path(scratch))
        _seal(partial)
        checked = verify_backup(partial)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        os.link(partial, target)  # refuses to replace, unlike a rename
    except FileNotFoundError as error:
        raise BackupError(
            f"{home} must not lose files while it is backed up, found {error.filename} gone; "
            "run it again when `tft gc` has ended"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return Backup(
        path=target, created_at=checked.created_at, files=checked.files, n_bytes=checked.n_bytes
    )


def verify_backup(path: Path) -> Backup:
    """Read a backup through: every file is there with the bytes it was written with.

    Raises:
        BackupError: It is no backup, was cut or damaged, or holds what no backup holds.
    """
    found: dict[str, str] = {}
    n_bytes = 0
    try:
        with tarfile.open(path, "r:") as archive:
            manifest = _manifest_of(archive, path)
            for member in archive:
                if member.name == MANIFEST:
                    continue
                parts = PurePosixPath(member.name).parts
                if not member.isreg() or parts[0] not in (STATE, DAGSTER) or ".." in parts:
                    raise BackupError(
                        f"{path} must hold plain files of {STATE}/ and {DAGSTER}/, found "
                        f"{member.name}; do not restore it"
                    )
                found[member.name] = _digest(_opened(archive, member))
                n_bytes += member.size
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise BackupError(
            f"{path} must be a whole backup, found: {error}; use another one"
        ) from error
    if found != manifest["files"]:
        names = found.keys() | manifest["files"].keys()
        wrong = sorted(n for n in names if found.get(n) != manifest["files"].get(n))
        raise BackupError(
            f"{path} must hold the bytes that were written, found {len(wrong)} other files, "
            f"{wrong[0]} first; use another backup"
        )
    return Backup(path=path, created_at=manifest["created_at"], files=found, n_bytes=n_bytes)


def restore(path: Path, home: Path, dagster_home: Path | None = None) -> Backup:
    """Put a backup's files where there are none yet.

    Raises:
        BackupError: The backup is damaged, or files would be replaced.
    """
    backup = verify_backup(path)
    places = {STATE: home} | ({DAGSTER: dagster_home} if dagster_home else {})
    missing = backup.parts() - set(places)
    if missing:
        raise BackupError(
            f"{path} holds Dagster's storage, which must have a place, found none; "
            "set $DAGSTER_HOME or give --dagster-home"
        )
    for name, place in places.items():
        tops = {PurePosixPath(n).parts[1] for n in backup.files if n.startswith(f"{name}/")}
        if name == STATE and place.is_dir():
            # a name with a dot is no state (Settings): a cache, a lock
            tops |= {e.name for e in place.iterdir() if not e.name.startswith(".")}
        taken = sorted(top for top in tops if (place / top).exists())
        if taken:
            raise BackupError(
                f"{place} must hold nothing that would be replaced, found {taken[0]}; "
                "move it away first"
            )
    with tarfile.open(path, "r:") as archive:
        for name, place in sorted(places.items()):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            stage = place / f".restore-{secrets.token_hex(4)}"
            try:
                members = [m for m in archive.getmembers() if m.name.startswith(f"{name}/")]
                archive.extractall(stage, members=members, filter="data")
                for entry in sorted((stage / name).iterdir()) if members else ():
                    entry.rename(place / entry.name)
            finally:
                shutil.rmtree(stage, ignore_errors=True)
    return backup


def _add_root(archive: tarfile.TarFile, root: Path, name: str, scratch: Path) -> None:
    pointers = [p for p in _files(root) if p.name in POINTERS]
    held = {p: p.read_bytes() for p in pointers}
    for path in _files(root):
        if path.name in POINTERS:
            continue
        member = f"{name}/{path.relative_to(root).as_posix()}"
        with _still(path, scratch) as copied:
            archive.add(copied, member, recursive=False, filter=_plain)
    for path, payload in held.items():
        info = _plain(tarfile.TarInfo(f"{name}/{path.relative_to(root).as_posix()}"))
        info.size, info.mtime = len(payload), int(path.stat().st_mtime)
        archive.addfile(info, io.BytesIO(payload))


def _files(root: Path) -> list[Path]:
    """Regular files that are state: no locks, no staging or trash, nothing that is a link."""
    found = []
    for folder, names, files in os.walk(root):
        here = Path(folder)
        names[:] = sorted(n for n in names if not n.startswith("."))
        found += [
            here / n
            for n in sorted(files)
            if not n.startswith(".")
            and not n.endswith(LEFT_OUT_SUFFIXES)
            and n not in LEFT_OUT
            and not (here / n).is_symlink()
        ]
    return found


@contextmanager
def _still(path: Path, scratch: Path) -> Iterator[Path]:
    """A file that does not change while it is read: itself, or a consistent copy of a data base."""
    copy = scratch / secrets.token_hex(8)
    if path.suffix in SQLITE_SUFFIXES:
        source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
        with closing(source), closing(sqlite3.connect(copy)) as out:
            source.backup(out)
    elif path.suffix == ".duckdb":
        with without_writers(path):
            shutil.copyfile(path, copy)
    else:
        yield path
        return
    shutil.copystat(path, copy)
    try:
        yield copy
    finally:
        copy.unlink()


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Bytes and time of a file; whose it was on this machine is nobody's business."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o600
    return info


def _seal(path: Path) -> None:
    """Append the manifest: hashes of what the file holds, read back from it."""
    with tarfile.open(path, "r:") as archive:
        files = {}
        for member in archive:
            files[member.name] = _digest(_opened(archive, member))
    manifest = {
        "format": FORMAT,
        "created_at": utc_stamp(),
        "files": files,
    }
    payload = canonical_json(manifest).encode()
    info = _plain(tarfile.TarInfo(MANIFEST))
    info.size = len(payload)
    with tarfile.open(path, "a:") as archive:
        archive.addfile(info, io.BytesIO(payload))


def _manifest_of(archive: tarfile.TarFile, path: Path) -> dict[str, Any]:
    """What a backup says of itself: ``files`` and ``created_at``, in the format we write."""
    table = json.loads(_opened(archive, archive.getmember(MANIFEST)).read())
    if table["format"] != FORMAT:
        raise BackupError(
            f"{path} must have backup format {FORMAT}, found {table['format']!r}; "
            "restore it with the version that wrote it"
        )
    return {"files": dict(table["files"]), "created_at": str(table["created_at"])}


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> io.BufferedReader:
    handle = archive.extractfile(member)
    if handle is None:
        raise BackupError(
            f"{member.name} in a backup must be a plain file, found something else; "
            "do not restore it"
        )
    # typeshed says IO[bytes]; what the standard library gives is an ExFileObject
    assert isinstance(handle, io.BufferedReader)
    return handle


def _digest(handle: io.BufferedReader) -> str:
    return hashlib.file_digest(handle, "sha256").hexdigest()
