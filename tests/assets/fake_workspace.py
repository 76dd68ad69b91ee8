"""A workspace whose phases write a line of JSON: the graph, store and plan are the real ones.

An artifact's content follows from its upstream artifacts' content, its settings and its
overrides, as that of the real phases does. ``market.json`` in the home stands for the store,
``faults.json`` makes phases find, refuse or wait for something.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from tft_assets.resources import WorkspaceFactory
from tft_core import errors
from tft_core.checks import Finding
from tft_core.config import Settings
from tft_core.errors import ConfigError, TftError
from tft_core.folds import FoldConfig, WalkForward
from tft_core.inference import Refusal
from tft_core.logs import get_logger, log_context
from tft_core.schema import LIVE_FOLD, content_hash
from tft_core.training_pipeline.arrivals import VERSION_DIGITS, Arrivals
from tft_core.training_pipeline.artifacts import Artifact, open_artifacts
from tft_core.training_pipeline.graph import SPECS, code_version, made_from

SECTIONS = {
    "folds": {"anchor": "2022-01-01", "test_length": "12M", "n_windows": 3},
    "tuning": {"retune_every": 2},
    "operations": {"timezone": "Asia/Kolkata", "exchange": "24/5", "nightly_hour": 18},
}


class FakeWorkspace:
    """What ``tft_core.training_pipeline.Workspace`` promises, in milliseconds."""

    def __init__(self, home: Path, sections: Mapping[str, Mapping[str, Any]]) -> None:
        self.settings = Settings(path=None, profile="test", home=home, sections=sections)
        self.plan = WalkForward.from_config(self.settings.build(FoldConfig, "folds"))
        self.artifacts = open_artifacts(self.settings)
        self.retune_every = int(sections["tuning"]["retune_every"])

    def build(
        self,
        asset: str,
        key: str,
        overrides: Mapping[str, Any] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Artifact:
        values = dict(overrides or {})
        if asset == "market_data" and values:
            raise ConfigError(f"overrides of {asset} must be empty, found {values}")
        faults = self._read("faults.json").get(f"{asset}/{key}", {})
        if "refuses" in faults and self._strikes(asset, key):
            raise _refusal(faults)
        upstream = self._upstream(asset, key)
        if progress:
            progress(f"{asset} {key}")
        with self.artifacts.draft(asset, key, code_version(asset, self.settings)) as draft:
            draft.made_from.update({a.name: a.content_hash for a in upstream})
            content = {"made_from": draft.made_from, "overrides": values}
            if asset == "market_data":
                content["bars"] = self._bars(key)
                draft.made_from["store"] = content_hash(content["bars"])
            draft.write_json("content.json", content)
            if "says" in faults:
                with log_context(asset=asset, fold=key):
                    get_logger("tft_core.fake").info(faults["says"])
            if "waits_while" in faults:
                self._wait(Path(faults["waits_while"]))
            draft.write_text("report.html", "<h1>report</h1>")
            draft.summary.update(sharpe_ann=0.5, n_upstream=len(upstream), undefined=None)
            if asset == "market_data":
                draft.summary["data_hash"] = draft.made_from["store"][:VERSION_DIGITS]
            if asset == "production_fold":
                draft.summary["trained_through"] = max(self._bars(LIVE_FOLD), default="")
            draft.summary.update(faults.get("summary", {}))
            for code in faults.get("finds", ()):
                severity, _, name = code.partition(" ")
                draft.findings.append(Finding(name, severity, f"{name} does not hold"))
        made = self.artifacts.current(asset, key)
        assert made is not None
        return made

    def is_fresh(self, asset: str, key: str) -> bool:
        artifact = self.artifacts.current(asset, key)
        if artifact is None or artifact.fingerprint != code_version(asset, self.settings):
            return False
        if asset == "market_data":
            return artifact.made_from == {"store": content_hash(self._bars(key))}
        pairs = made_from(asset, key, self.plan, self.retune_every)
        now = [self.artifacts.current(a, k) for a, k in pairs]
        return artifact.made_from == {a.name: a.content_hash for a in now if a is not None}

    def arrivals_stamp(self) -> str:
        store = self.settings.home / "market.json"
        return store.read_text() if store.exists() else ""

    def arrivals(self) -> Arrivals:
        """Days after the model's newest; a day that is gone counts as restated."""
        versions = {
            key: content_hash(self._bars(key))[:VERSION_DIGITS]
            for key in self.plan.keys
            if key == LIVE_FOLD or self.artifacts.current("market_data", key) is not None
        }
        market = self._read("market.json")
        if market.get("locked"):
            raise errors.StoreLockedError("held by PID 12")
        model = self.artifacts.current("production_fold", LIVE_FOLD)
        days, through = self._bars(LIVE_FOLD), None
        if model is not None:
            through = date.fromisoformat(model.summary["trained_through"])
        bars = self.artifacts.current("market_data", LIVE_FOLD)
        return Arrivals(
            versions=versions,
            ingestion=market.get("ingestion", 1),
            newest=date.fromisoformat(days[-1]),
            trained_through=through,
            sessions=sum(through is not None and day > through.isoformat() for day in days),
            restated=market.get("restated", 0),
            is_stale=bars is not None and bars.summary["data_hash"] != versions[LIVE_FOLD],
        )

    def health(self) -> tuple[Finding, ...]:
        findings = self._read("faults.json").get("health", [])
        return tuple(Finding(code, severity, message) for severity, code, message in findings)

    def _strikes(self, asset: str, key: str) -> bool:
        """Whether a fault that passes (``times``) is still there; counts it."""
        all_faults = self._read("faults.json")
        fault = all_faults[f"{asset}/{key}"]
        if "times" not in fault:
            return True
        fault["times"] -= 1
        (self.settings.home / "faults.json").write_text(json.dumps(all_faults))
        return fault["times"] >= 0

    @staticmethod
    def _wait(gate: Path) -> None:
        """Write this process's number into a file, and go on once that is removed."""
        gate.write_text(str(os.getpid()))
        while gate.exists():
            time.sleep(0.02)

    def _upstream(self, asset: str, key: str) -> list[Artifact]:
        if SPECS[asset].partitions == "session":
            return []
        pairs = made_from(asset, key, self.plan, self.retune_every)
        return [self.artifacts.read(a, k) for a, k in pairs]

    def _bars(self, key: str) -> list[str]:
        """The store's days within a partition's span."""
        start, end = (d.isoformat() if d else None for d in self.plan.feature_span(key))
        return [
            day
            for day in self._read("market.json").get("days", [])
            if (start is None or day >= start) and (end is None or day < end)
        ]

    def _read(self, name: str) -> dict[str, Any]:
        path = self.settings.home / name
        return json.loads(path.read_text()) if path.exists() else {}


def _refusal(faults: Mapping[str, Any]) -> TftError:
    """A refusal with a code, or an error of the type named (by default a ``TrainingError``)."""
    if "code" in faults:
        return Refusal(faults["code"], faults["refuses"])
    error: type[TftError] = getattr(errors, faults.get("as", "TrainingError"))
    return error(faults["refuses"])


class FakeWorkspaceFactory(WorkspaceFactory):
    """Opens ``FakeWorkspace`` over a home and sections given as JSON."""

    home: str
    sections: str

    def open(self) -> FakeWorkspace:
        return FakeWorkspace(Path(self.home), json.loads(self.sections))


@dataclasses.dataclass
class Home:
    """A state directory under test, with the configuration that is in force."""

    path: Path
    sections: dict[str, dict[str, Any]] = dataclasses.field(
        default_factory=lambda: {k: dict(v) for k, v in SECTIONS.items()}
    )

    def workspace(self) -> FakeWorkspace:
        return FakeWorkspace(self.path, self.sections)

    def resources(self) -> dict[str, WorkspaceFactory]:
        return {
            "workspace": FakeWorkspaceFactory(
                home=str(self.path), sections=json.dumps(self.sections)
            )
        }

    def set_market(self, *days: str, **facts: Any) -> None:
        """The store's days; ``restated``, ``ingestion`` and ``locked`` as facts beside them."""
        (self.path / "market.json").write_text(json.dumps({"days": list(days), **facts}))

    def set_faults(self, faults: Mapping[str, Any]) -> None:
        (self.path / "faults.json").write_text(json.dumps(faults))
