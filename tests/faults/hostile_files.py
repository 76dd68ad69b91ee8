"""What somebody might put into a registry to run code, exhaust a reader or be believed.

Each case changes one part of a good version (or its promotion record) and, where it can, forges
the manifest over it: the hashes fit, so that the parsers themselves are what is tested.
"""

import gzip
import io
import json
import os
import pickle
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from tft_core.checkpoint_manager import atomic, manifest
from tft_core.schema import content_hash

Case = Callable[[Path, Path], None]
"""Takes the version's directory, and a file that any code run must create."""

F32 = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.canary}",))


def vouch(path: Path) -> None:
    """Write a manifest whose hashes fit whatever lies there."""
    names = [e.name for e in path.iterdir() if e.name != "MANIFEST.json" and e.is_file()]
    table = manifest.Manifest.of("0" * 64, {name: path / name for name in names})
    (path / "MANIFEST.json").write_bytes(table.to_bytes())


def forge(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's table and give it the hash that fits."""
    body = json.loads((path / "MANIFEST.json").read_text())
    del body["sha256"]
    change(body)
    document = atomic.dump_json({**body, "sha256": content_hash(body)})
    (path / "MANIFEST.json").write_bytes(document)


def weights_of(data: bytes | Callable[[Path], bytes]) -> Case:
    def put(path: Path, canary: Path) -> None:
        content = data(canary) if callable(data) else data
        (path / "model.safetensors").write_bytes(content)
        vouch(path)

    return put


def state_with(change: Callable[[dict[str, torch.Tensor]], object]) -> Case:
    """A well-formed weight file, its tensors changed."""

    def put(path: Path, canary: Path) -> None:
        state = load((path / "model.safetensors").read_bytes())
        change(state)
        (path / "model.safetensors").write_bytes(save(state))
        vouch(path)

    return put


def header(table: Any, n_bytes: int = 16) -> bytes:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + bytes(n_bytes)


def document(name: str, data: bytes) -> Case:
    def put(path: Path, canary: Path) -> None:
        (path / name).write_bytes(data)
        vouch(path)

    return put


def metadata_with(**changes: Any) -> Case:
    def put(path: Path, canary: Path) -> None:
        table = json.loads((path / "metadata.json").read_text())
        for key, value in changes.items():
            table[key] = {**table[key], **value} if key == "config" else value
        (path / "metadata.json").write_text(json.dumps(table))
        vouch(path)

    return put


def manifest_with(change: Callable[[dict[str, Any]], object]) -> Case:
    return lambda path, canary: forge(path, change)


def manifest_of(data: bytes) -> Case:
    def put(path: Path, canary: Path) -> None:
        (path / "MANIFEST.json").write_bytes(data)

    return put


def named(name: str) -> Case:
    """A manifest that lists one file more, by a name that leads elsewhere."""
    return manifest_with(lambda b: b["files"].update({name: b["files"]["metadata.json"]}))


def in_place_of(name: str, make: Callable[[Path], object]) -> Case:
    def put(path: Path, canary: Path) -> None:
        target = (path.parent if name == "promotions.json" else path) / name
        target.unlink(missing_ok=True)
        make(target)

    return put


def sparse(size: int) -> Callable[[Path], object]:
    def make(target: Path) -> None:
        with target.open("wb") as handle:
            handle.truncate(size)

    return make


def listen(target: Path) -> None:
    os.chdir(target.parent)  # a socket's path is at most 107 bytes
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(target.name)


def promotions(change: Callable[[list[dict[str, Any]]], object]) -> Case:
    """A promotion record whose own hash fits."""

    def put(path: Path, canary: Path) -> None:
        record = path.parent / "promotions.json"
        table = json.loads(record.read_text())
        change(table["events"])
        table["sha256"] = content_hash(table["events"])
        record.write_bytes(atomic.dump_json(table))

    return put


def record_of(data: bytes | Callable[[Path], bytes]) -> Case:
    def put(path: Path, canary: Path) -> None:
        content = data(canary) if callable(data) else data
        (path.parent / "promotions.json").write_bytes(content)

    return put


def linked_version(path: Path, canary: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def many_files(path: Path, canary: Path) -> None:
    for number in range(20_000):
        os.close(os.open(path / f"f{number}", os.O_CREAT | os.O_WRONLY))


def sized(name: str, size: int) -> Case:
    """A sparse file of an enormous size that the manifest lists as such."""

    def put(path: Path, canary: Path) -> None:
        sparse(size)(path / name)
        entry = {"sha256": "0" * 64, "size_bytes": size}
        forge(path, lambda b: b["files"].update({name: entry}))

    return put


def bomb(kind: str) -> bytes:
    zeros = bytes(50_000_000)
    if kind == "gzip":
        return gzip.compress(zeros, 6)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", zeros)
    return buffer.getvalue()


def torch_saved(canary: Path, *, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": Payload(canary)}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def object_array(canary: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(canary)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def _one(state: dict[str, torch.Tensor]) -> str:
    return next(name for name, t in sorted(state.items()) if t.is_floating_point() and t.numel())


def _poison(value: float, dtype: torch.dtype = torch.float32) -> Case:
    def change(state: dict[str, torch.Tensor]) -> None:
        tensor = state[_one(state)].to(dtype).clone()
        tensor.view(-1)[0] = value
        state[_one(state)] = tensor

    return state_with(change)


DEEP = b"[" * 100_000 + b"]" * 100_000
WIDE = b"[" + b"1," * 1_000_000 + b"1]"
TWICE = b"{" + b'"k":1,' * 300_000 + b'"k":1}'

WEIGHTS: dict[str, Case] = {
    **{
        f"pickle, protocol {n}": weights_of(lambda c, n=n: pickle.dumps(Payload(c), n))
        for n in (0, 2, 4, 5)
    },
    "torch.save, zip": weights_of(lambda c: torch_saved(c, zipped=True)),
    "torch.save, legacy": weights_of(lambda c: torch_saved(c, zipped=False)),
    "npy of objects": weights_of(object_array),
    "gzip of a pickle": weights_of(lambda c: gzip.compress(pickle.dumps(Payload(c)))),
    "zip bomb": weights_of(lambda c: bomb("zip")),
    "gzip bomb": weights_of(lambda c: bomb("gzip")),
    "python source": weights_of(lambda c: f"import os; os.system('touch {c}')".encode()),
    "empty": weights_of(b""),
    "seven bytes": weights_of(bytes(7)),
    "header of no length": weights_of(bytes(8)),
    "header of 2**62 bytes": weights_of(struct.pack("<Q", 2**62) + b"{}"),
    "header of 2**64 − 1 bytes": weights_of(struct.pack("<Q", 2**64 - 1) + b"{}"),
    "header longer than the file": weights_of(struct.pack("<Q", 1000) + b"{}"),
    "header of 50 MB of spaces": weights_of(header(b"{" + b" " * 50_000_000 + b"}")),
    "header of wide JSON": weights_of(header(b'{"a":' + WIDE + b"}")),
    "header of deep JSON": weights_of(header(b'{"a":' + DEEP + b"}")),
    "header names a tensor twice": weights_of(
        header(b'{"a":%b,"a":%b}' % ((json.dumps(F32).encode(),) * 2))
    ),
    "header of 300,000 equal keys": weights_of(header(TWICE)),
    "header not UTF-8": weights_of(header(b"{\xff\xfe}")),
    "header is a list": weights_of(header([])),
    "header is null": weights_of(header(None)),
    "header's metadata is nested": weights_of(header({"__metadata__": {"a": {}}, "a": F32})),
    "no tensors": weights_of(save({})),
    "overlapping tensors": weights_of(
        header({"a": F32, "b": {**F32, "data_offsets": [8, 24]}}, 24)
    ),
    "a hole between tensors": weights_of(
        header({"a": F32, "b": {**F32, "data_offsets": [32, 48]}}, 48)
    ),
    "offsets beyond the end": weights_of(header({"a": {**F32, "data_offsets": [0, 2**40]}})),
    "offsets backwards": weights_of(header({"a": {**F32, "data_offsets": [16, 0]}})),
    "bytes after the end": weights_of(header({"a": F32}, 4096)),
    "negative shape": weights_of(header({"a": {**F32, "shape": [-4]}})),
    "shape that overflows": weights_of(header({"a": {**F32, "shape": [2**62, 4]}})),
    "shape of 2**63 by nothing": weights_of(
        header({"a": {"dtype": "F32", "shape": [2**63 - 1, 0], "data_offsets": [0, 0]}}, 0)
    ),
    "3,000 axes": weights_of(header({"a": {**F32, "shape": [1] * 2999 + [4]}})),
    "unknown type": weights_of(header({"a": {**F32, "dtype": "F31"}})),
    "type that torch lacks": weights_of(
        header({"a": {"dtype": "F8_E8M0", "shape": [16], "data_offsets": [0, 16]}})
    ),
    "eight-bit floats": weights_of(
        header({"a": {"dtype": "F8_E4M3", "shape": [16], "data_offsets": [0, 16]}})
    ),
    "complex numbers": weights_of(
        header({"a": {"dtype": "C64", "shape": [2], "data_offsets": [0, 16]}})
    ),
    "NaN": _poison(float("nan")),
    "inf": _poison(float("inf")),
    "−inf in float64": _poison(float("-inf"), torch.float64),
    "NaN in bfloat16": _poison(float("nan"), torch.bfloat16),
    "wrong shape": state_with(lambda s: s.update({_one(s): torch.zeros(3, 1)})),
    "wrong type": state_with(lambda s: s.update({_one(s): s[_one(s)].double()})),
    "missing tensor": state_with(lambda s: s.pop(_one(s))),
    "tensor too many": state_with(lambda s: s.update(intruder=torch.zeros(1))),
    "tensor named ../../evil": state_with(lambda s: s.update({"../../evil": torch.zeros(1)})),
    "5,000 members": state_with(
        lambda s: s.update({f"member_{i}/x": torch.zeros(1) for i in range(5000)})
    ),
    "another model's tensors": state_with(
        lambda s: (s.clear(), s.update({"layer.weight": torch.zeros(4, 4)}))
    ),
}
METADATA: dict[str, Case] = {
    "metadata: pickle": lambda path, canary: document(
        "metadata.json", pickle.dumps(Payload(canary))
    )(path, canary),
    "metadata: deep JSON": document("metadata.json", DEEP),
    "metadata: deep object": document("metadata.json", b'{"a":' * 3000 + b"1" + b"}" * 3000),
    "metadata: wide JSON": document("metadata.json", b'{"seeds":' + WIDE + b"}"),
    "metadata: 300,000 equal keys": document("metadata.json", TWICE),
    "metadata: NaN": document("metadata.json", b'{"sharpe_oos": NaN}'),
    "metadata: 1e999": document("metadata.json", b'{"sharpe_oos": 1e999}'),
    "metadata: a million digits": document("metadata.json", b'{"version": ' + b"9" * 10**6 + b"}"),
    "metadata: lone surrogate": document("metadata.json", b'{"model_type": "\\ud800"}'),
    "metadata: UTF-16": document("metadata.json", '{"a": 1}'.encode("utf-16")),
    "metadata: NUL bytes": document("metadata.json", bytes(4096)),
    "metadata: empty": document("metadata.json", b""),
    "metadata: a list": document("metadata.json", b"[]"),
    "metadata: 30 MB": document("metadata.json", b" " * 30_000_000),
    "metadata: unknown key": metadata_with(__reduce__=["os.system", ["true"]]),
    "metadata: schema 99": metadata_with(schema_version=99),
    "metadata: version as text": metadata_with(version="1; rm -rf /"),
    "metadata: model type with a path": metadata_with(model_type="../../etc"),
    "metadata: two million seeds": metadata_with(seeds=[1] * 2_000_000),
    "metadata: 200,000 equal names": metadata_with(feature_names=["a"] * 200_000),
    "metadata: names and count differ": metadata_with(n_features=10**9),
    "metadata: a date before time": metadata_with(created_at="0001-01-01T00:00:00+23:59"),
    "config: 10**9 hidden units": metadata_with(config={"d_hidden": 10**9}),
    "config: 10**9 layers": metadata_with(config={"lstm_layers": 10**9}),
    "config: text for a number": metadata_with(config={"d_hidden": "8"}),
    "config: a table for a number": metadata_with(config={"n_heads": {"a": 1}}),
    "config: unknown key": metadata_with(config={"trust_remote_code": True}),
    "config: other network": metadata_with(config={"d_hidden": 4}),
    "scaler: zero spread": metadata_with(
        normalization={"mean": [0.0] * 3, "std": [0.0] * 3, "clip": 5.0}
    ),
}
ODD_NAMES = (
    "../../../etc/passwd", "/etc/passwd", "a/b", "..", ".", "", ".hidden", "MANIFEST.json",
    "x" * 300, "nul\0", "名前", "a\nb",
)  # fmt: skip
MANIFESTS: dict[str, Case] = {
    **{f"manifest names {name[:20]!r}": named(name) for name in ODD_NAMES},
    "manifest: pickle": lambda path, canary: manifest_of(pickle.dumps(Payload(canary)))(
        path, canary
    ),
    "manifest: empty": manifest_of(b""),
    "manifest: deep JSON": manifest_of(DEEP),
    "manifest: 30 MB": manifest_of(b" " * 30_000_000),
    "manifest: a list": manifest_of(b"[]"),
    "manifest: files as a list": manifest_with(lambda b: b.update(files=["model.safetensors"])),
    "manifest: no weights": manifest_with(lambda b: b["files"].pop("model.safetensors")),
    "manifest: negative size": manifest_with(
        lambda b: b["files"]["metadata.json"].update(size_bytes=-1)
    ),
    "manifest: size as text": manifest_with(
        lambda b: b["files"]["metadata.json"].update(size_bytes="1")
    ),
    "manifest: hash of another length": manifest_with(
        lambda b: b["files"]["metadata.json"].update(sha256="00")
    ),
    "manifest: another version": manifest_with(lambda b: b.update(manifest_version=2)),
    "manifest: 1 TB of weights": sized("model.safetensors", 2**40),
    "manifest: 1 TB of notes": sized("note.txt", 2**40),
    "manifest: 1 GB of metadata": sized("metadata.json", 2**30),
}
PLACES: dict[str, Case] = {
    "weights are a link": in_place_of(
        "model.safetensors", lambda t: t.symlink_to("/etc/passwd")
    ),
    "weights are a link to /dev/zero": in_place_of(
        "model.safetensors", lambda t: t.symlink_to("/dev/zero")
    ),
    "metadata is a dangling link": in_place_of(
        "metadata.json", lambda t: t.symlink_to("nowhere")
    ),
    "metadata is a link to itself": in_place_of(
        "metadata.json", lambda t: t.symlink_to("metadata.json")
    ),
    "manifest is a link": in_place_of("MANIFEST.json", lambda t: t.symlink_to("/etc/passwd")),
    "weights are a pipe": in_place_of("model.safetensors", os.mkfifo),
    "manifest is a pipe": in_place_of("MANIFEST.json", os.mkfifo),
    "metadata is a directory": in_place_of("metadata.json", Path.mkdir),
    "metadata is a socket": in_place_of("metadata.json", listen),
    "weights are 1 TB of zeros": in_place_of("model.safetensors", sparse(2**40)),
    "an extra pickle": lambda path, canary: (path / "extra.pkl").write_bytes(
        pickle.dumps(Payload(canary))
    ) and None,
    "an extra hidden file": lambda path, canary: (path / ".pth").write_text("import os") and None,
    "20,000 extra files": many_files,
    "the version is a link": linked_version,
}  # fmt: skip
RECORDS: dict[str, Case] = {
    "promotions: pickle": record_of(lambda c: pickle.dumps(Payload(c))),
    "promotions: deep JSON": record_of(DEEP),
    "promotions: 30 MB": record_of(b" " * 30_000_000),
    "promotions: wide JSON": record_of(b'{"events":' + WIDE + b',"record_version":1,"sha256":"0"}'),
    "promotions: a link": in_place_of("promotions.json", lambda t: t.symlink_to("/etc/passwd")),
    "promotions: a pipe": in_place_of("promotions.json", os.mkfifo),
    "promotions: a directory": in_place_of("promotions.json", Path.mkdir),
    "promotions: 1 TB of zeros": in_place_of("promotions.json", sparse(2**40)),
    "promotions: another directory": promotions(
        lambda e: e[-1].update(directory="../../../tmp/v1_20200101T000000Z")
    ),
    "promotions: another version": promotions(lambda e: e[-1].update(version=7)),
    "promotions: version is true": promotions(lambda e: e[-1].update(version=True)),
    "promotions: reason is a table": promotions(lambda e: e[-1].update(reason={"a": 1})),
    "promotions: unknown key": promotions(lambda e: e[-1].update(run="os.system")),
    "promotions: date of a number": promotions(lambda e: e[-1].update(effective=20200101)),
    "promotions: rollback of nothing": promotions(lambda e: e[-1].update(action="rollback")),
    "promotions: other files promoted": promotions(lambda e: e[-1].update(manifest_hash="f" * 64)),
}
CASES: dict[str, Case] = {**WEIGHTS, **METADATA, **MANIFESTS, **PLACES, **RECORDS}
