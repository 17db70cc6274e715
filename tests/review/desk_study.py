"""A small judged study as ``veridice run`` leaves it, made without any network, and a desk that serves it."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import uvicorn

from veridice import cli
from veridice.case import Assessment, Calibration
from veridice.cli import review_commands
from veridice.cohort.records import Record, describe_input, write_record
from veridice.imaging.volume import Geometry, Volume
from veridice.io.atomic import write_json
from veridice.io.bids import ASSESSMENT_SUFFIX, write_maps, write_table
from veridice.io.nifti import write_image
from veridice.io.weight_cards import bundled_weights
from veridice.metrics.catalogue import LESION_COLUMNS
from veridice.quality.calibration import read_calibration

SHAPE = (12, 14, 9)
SHIPPED = read_calibration(bundled_weights() / "calibration.json")


def affine(order: tuple[int, int, int] = (0, 1, 2), signs: tuple[int, int, int] = (1, 1, 1), turn: float = 0.0) -> np.ndarray:
    """Axes of a file in any order and direction, and turned about z: voxels of 3 × 4 × 5 mm."""
    matrix = np.zeros((4, 4))
    for column, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        matrix[axis, column] = sign * (3, 4, 5)[column]
    cosine, sine = np.cos(turn), np.sin(turn)
    matrix[:3, :3] = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ matrix[:3, :3]
    matrix[:3, 3] = (-15, -20, -18)
    matrix[3, 3] = 1
    return matrix


def write_scan(root: Path, name: str, number: int = 0, geometry: Geometry | None = None) -> None:
    """One judged scan: images in the data set, results in its folder of derivatives."""
    output = root / "derivatives" / "veridice"
    parts = [part for part in name.split("_") if part[:4] in ("sub-", "ses-")]
    folder = Path(*parts, "anat")
    geometry = geometry or Geometry(SHAPE, affine())
    rng = np.random.default_rng(number)
    voxels = rng.normal(100, 8, geometry.shape).astype(np.float32)
    mask = np.zeros(geometry.shape, bool)
    mask[3:6, 4:7, 3:5] = True
    mask[8, 9, 5] = True
    voxels[mask] += 80
    (root / folder).mkdir(parents=True, exist_ok=True)
    files = [root / folder / f"{name}_{kind}.nii.gz" for kind in ("FLAIR", "T1w")]
    for file, image in zip(files, (voxels, 200 - voxels), strict=True):
        write_image(file, Volume(image, geometry))
    (output / folder).mkdir(parents=True, exist_ok=True)
    probability = np.where(mask, 0.9, 0.05).astype(np.float32)
    numbers = np.zeros(geometry.shape, np.int16)
    numbers[3:6, 4:7, 3:5], numbers[8, 9, 5], numbers[2, 10, 6] = 1, 2, 3
    volumes = {"lesion_mask": mask, "lesion_probability": probability, "entropy": probability, "lesion_numbers": numbers}
    maps = write_maps(output / folder, name, {key: Volume(value, geometry) for key, value in volumes.items()}, {})
    rows = [lesion(1, "mask", 0.9, geometry, (4, 5, 3)), lesion(2, "mask", 0.2, geometry, (8, 9, 5))]
    table = write_table(
        output / folder, name, "lesions", [*rows, lesion(3, "missed", 0.7, geometry, (2, 10, 6))], LESION_COLUMNS
    )
    stored = output / folder / f"{name}{ASSESSMENT_SUFFIX}"
    write_json(stored, assessment(name, number, maps, table).model_dump(mode="json"))
    results = tuple((folder / file.name).as_posix() for file in sorted((output / folder).iterdir()))
    write_record(
        output, Record(scan=name, status="done", settings="s", inputs=tuple(map(describe_input, files)), files=results)
    )


def lesion(number: int, place: str, confidence: float, geometry: Geometry, voxel: tuple[int, int, int]) -> dict[str, Any]:
    x, y, z = geometry.affine[:3, :3] @ voxel + geometry.affine[:3, 3]
    return {"number": number, "place": place, "confidence": confidence, "volume_ml": 0.1, "x": x, "y": y, "z": z}


def assessment(name: str, number: int, maps: dict[str, str], table: str) -> Assessment:
    """The higher the number, the worse the mask."""
    dice = 0.9 - 0.06 * (number % 12)
    return Assessment(
        case=name,
        verdict="accept" if dice > 0.8 else "review" if dice > 0.5 else "reject",
        predicted_dice=dice,
        interval=(dice - 0.1, min(1.0, dice + 0.1)),
        coverage=0.9,
        calibration=Calibration(source=SHIPPED.source, n=SHIPPED.n, simulated=True, sha256=SHIPPED.checksum),
        decided_by="neither",
        p_values={"bad": min(1.0, 0.002 + (0.9 - dice) * 1.5), "gross": 0.002, "good": dice},
        scores={
            "failure_probability": min(0.99, 0.01 + 0.09 * (number % 12)),
            "expected_gain": 0.001 + 0.06 * (number % 12),
            "predicted_spread": 0.05,
            "lesion_count": 2.0,
        },
        volumes_ml={"judged_mask": 1.2, "own_mask": 1.2},
        warnings=("<img src=x onerror=alert(1)> is only a text",),
        warning_codes=("test",),
        maps=maps,
        tables={"lesions": table},
        seconds={"total": 1.0},
        model={"passes": 2, "seed": 0, "min_dice": 0.75, "max_missed": 0.05, "max_wasted": 0.05, "max_gross": 0.01},
        version="0.1.0",
    )


def write_study(root: Path, scans: int = 12, sessions: int = 0) -> Path:
    """A study; returns its folder of derivatives."""
    shutil.copytree(_written_once(scans, sessions).name, root, dirs_exist_ok=True)
    return root / "derivatives" / "veridice"


@cache
def _written_once(scans: int, sessions: int) -> TemporaryDirectory[str]:
    """Studies of one size are copies, with the same times of change; the first goes when the process ends."""
    kept = TemporaryDirectory()
    root = Path(kept.name)
    write_json(root / "dataset_description.json", {"Name": "study", "BIDSVersion": "1.10.0"})
    for number in range(scans):
        names = [f"sub-{number:03d}_ses-{n + 1}" for n in range(sessions)] if sessions else [f"sub-{number:03d}"]
        for name in names:
            write_scan(root, name, number)
    return kept


def without_judge(folder: Path) -> Path:
    """A folder of weights that has a calibration and no networks: drawings are kept, and judging them fails at once."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "calibration.json").write_bytes((bundled_weights() / "calibration.json").read_bytes())
    return folder


class Client:
    """One rater's requests, over a real connection."""

    def __init__(self, link: str) -> None:
        self.link = link
        self.host, self.token = re.fullmatch(r"http://([^/]+)/\?token=(.+)", link).groups()  # type: ignore[union-attr]

    def raw(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self.token}", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def ask(self, method: str, path: str, content: Any = None, **headers: str) -> tuple[int, Any]:
        body = None if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = {"Content-Type": "application/json"} if content is not None else {}
        status, _, answer = self.raw(method, path, body, {**kind, **headers})
        return status, json.loads(answer)

    def get(self, path: str) -> Any:
        status, content = self.ask("GET", path)
        assert status == 200, content
        return content

    def rate(self, scan: str, rating: str, **more: Any) -> tuple[int, Any]:
        version = self.get(f"/api/scans/{scan}")["version"]
        key = more.pop("key", os.urandom(8).hex())
        return self.ask("POST", f"/api/scans/{scan}/rating", {"key": key, "version": version, "rating": rating, **more})

    def draw(self, scan: str, voxels: np.ndarray, draft: bool = False) -> tuple[int, Any]:
        version = self.get(f"/api/scans/{scan}")["version"]
        content = gzip.compress(voxels.astype(np.uint8).tobytes(order="F"))
        return self.ask("PUT", f"/api/scans/{scan}/drawing?version={version}&draft={str(draft).lower()}", content)


def command(output: Path, options: tuple[str, ...], raters: str, weights: Path | None) -> list[str]:
    """The arguments of a desk on a free port."""
    given = [*options, *(["--weights", str(weights)] if weights else [])]
    return ["review", "open", str(output), "--port", "0", "--raters", raters, *given]


class Desk:
    """A desk that answers, and the clients of its raters."""

    def __init__(self, output: Path, links: dict[str, str]) -> None:
        self.output = output
        self.clients = {code: Client(link) for code, link in links.items()}

    def __getitem__(self, rater: str) -> Client:
        return self.clients[rater]


@contextmanager
def served(output: Path, *options: str, raters: str = "ANNA,BEN", weights: Path | None = None) -> Iterator[Desk]:
    """The command itself, in a thread: starting a process takes seconds."""
    told: SimpleQueue[Any] = SimpleQueue()

    class Noted(uvicorn.Server):
        def run(self, sockets: list[socket.socket] | None = None) -> None:
            told.put(self)
            super().run(sockets)

    def work() -> None:
        try:
            cli.app(command(output, options, raters, weights), standalone_mode=False)
        except BaseException as error:
            told.put(error)

    thread = threading.Thread(target=work, daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(review_commands, "_tell", lambda links, *_: told.put(links))
        patch.setattr("veridice.review.serve.uvicorn.Server", Noted)
        thread.start()
        links, server = _expected(told), _expected(told)
    try:
        yield Desk(output, links)
    finally:
        server.should_exit = server.force_exit = True  # no look, a tenth of a second later, whether clients are gone
        thread.join(30)
        assert not thread.is_alive()


def _expected(told: SimpleQueue[Any]) -> Any:
    if isinstance(answer := told.get(timeout=30), BaseException):
        raise answer
    return answer


class DeskProcess(Desk):
    """A desk in a process of its own, which may be killed."""

    def __init__(self, output: Path, process: subprocess.Popen[str], raters: int) -> None:
        self.process = process
        assert process.stdout is not None
        assert process.stderr is not None
        head = process.stderr.readline()
        if "scans of" not in head:
            raise AssertionError(head + process.stderr.read())
        while "Ctrl-C" not in process.stderr.readline():
            pass
        # The links are printed before the last line.
        lines = (process.stdout.readline().strip().partition(": ") for _ in range(raters))
        super().__init__(output, {code: link for code, _, link in lines})


@contextmanager
def served_apart(output: Path, *options: str, raters: str = "ANNA,BEN", weights: Path | None = None) -> Iterator[DeskProcess]:
    """The command in a process of its own, for what ends it."""
    arguments = [sys.executable, "-m", "veridice", *command(output, options, raters, weights)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    desk = DeskProcess(output, process, raters.count(",") + 1)
    try:
        yield desk
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
