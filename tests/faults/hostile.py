"""Load hostile files, each in a process of its own that is watched and limited."""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import torch

from tests.faults.hostile_files import CASES, RECORDS
from tests.faults.report import Row
from tests.faults.story import copy_of
from tests.support.checkpoints import metadata
from tft_core.checkpoint_manager import CheckpointManager
from tft_core.models.config import XTrendConfig
from tft_core.models.ensemble import Ensemble
from tft_core.models.network import ContextBank, XTrend

LIMIT_S = 1.0
LIMIT_MB = 200.0
DEADLINE_S = 60
RUNS_CODE = frozenset(
    {"pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen",
     "socket.connect", "ctypes.dlopen", "import", "exec", "compile", "marshal.loads"}
)  # fmt: skip


def good_version(root: Path) -> Path:
    """A real, tiny ensemble in a registry, in production."""
    config = XTrendConfig.smoke(n_features=3, n_assets=2)
    encoded = torch.zeros(config.n_context, 1, config.d_hidden)
    bank = ContextBank(encoded, encoded.clone(), torch.zeros(config.n_context, dtype=torch.int64))
    state = Ensemble(config, [XTrend(config)], [bank]).state_dict()
    registry = CheckpointManager(root)
    note = {"note.txt": b"a note"}
    path = registry.save(state, metadata(config=config.to_dict()), extra_files=note)
    registry.promote(path, "first")
    return path


def open_version(path: Path) -> None:
    """The whole way from files to a network, as serving goes it."""
    state, meta = CheckpointManager(path.parents[1]).load(path)
    Ensemble.from_state(XTrendConfig.from_dict(dict(meta.config)), state)


def hostile(folder: Path, every: int = 1) -> Row:
    """Every case: refused by a typed error, no code run, in little time and memory."""
    base, root = folder / "template", folder / "registry"
    name_of_version = good_version(base).name
    problems: list[str] = []
    names = list(CASES)[::every]
    slowest = largest = 0.0
    open_version(copy_of(base, root) / "x_trend" / name_of_version)  # imports are not the files'
    for number, name in enumerate(names):
        path = copy_of(base, root) / "x_trend" / name_of_version
        canary = folder / f"canary_{number}"
        CASES[name](path, canary)
        answer = _watched(
            CheckpointManager(root).load_production
            if name in RECORDS
            else lambda p=path: open_version(p)
        )
        found = []
        if answer is None:
            found.append("the process died")
        else:
            slowest, largest = max(slowest, answer["cpu_s"]), max(largest, answer["mb"])
            if answer["types"] is None:
                found.append("accepted")
            elif "TftError" not in answer["types"]:
                found.append(f"{answer['types'][0]}: {answer['text']}")
            if answer["cpu_s"] > LIMIT_S:
                found.append(f"{answer['cpu_s']:.2f} s")
            if answer["mb"] > LIMIT_MB:
                found.append(f"{answer['mb']:.0f} MB")
            found += [f"ran code: {event}" for event in answer["events"]]
        if canary.exists():
            found.append("ran its payload")
        problems += [f"{name}: {problem}" for problem in found]
    return Row(
        "hostile files: pickles, bombs, odd names, links, pipes, forged hashes, odd numbers",
        len(names),
        len(problems),
        60,
        f"all refused by a typed error; no code run; at most {slowest:.2f} s of CPU and "
        f"{largest:.0f} MB",
        tuple(problems[:20]),
    )


def _watched(work) -> dict | None:
    """What a forked child says of ``work``; ``None`` where it died or did not end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        events: list[str] = []
        watching = False

        def watch(event: str, arguments: tuple) -> None:
            if watching and event in RUNS_CODE:
                events.append(f"{event} {arguments!r}"[:120])

        resource.setrlimit(resource.RLIMIT_CPU, (DEADLINE_S, DEADLINE_S))
        signal.alarm(DEADLINE_S)
        sys.addaudithook(watch)
        types: list[str] | None = None
        text = ""
        started, before = time.process_time(), _rss_mb("VmRSS")
        _reset_peak()
        try:
            watching = True
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - what it is, is the question
                types, text = [kind.__name__ for kind in type(error).__mro__], str(error)[:200]
            watching = False
            said = {
                "types": types,
                "text": text,
                "events": events,
                "cpu_s": time.process_time() - started,
                "mb": _rss_mb("VmHWM") - before,
            }
            os.write(writer, json.dumps(said).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        said = stream.read()
    os.waitpid(pid, 0)
    return json.loads(said) if said else None


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _rss_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
