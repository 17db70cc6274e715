"""How many studies an hour the gateway judges, and the memory of its node: before any study, and with the judge at work.

python benchmarks/gateway.py -n 20

The bundled scan (FLAIR and T1w, 254 images) is sent as so many studies by C-STORE, as fast as the node takes them. Results go
to an archive that takes and forgets them. The clock runs from the first image to the last result. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, evt

from veridice.gateway.queue import Queue
from veridice.io.nifti import read_image
from veridice.simulate.dicom_study import FLAIR, NOBODY, T1W, write_mr_series

DEMO = Path(str(resources.files("veridice") / "demo"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=20)
    count = parser.parse_args().n
    archive = AE("ARCHIVE")
    for context in AllStoragePresentationContexts:
        archive.add_supported_context(context.abstract_syntax)
    store = archive.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0)])
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        command = [sys.executable, "-m", "veridice", "gateway", "--inbox", str(folder / "inbox"), "--port", str(port)]
        command += ["--from", "SCANNER", "--send", f"127.0.0.1:{store.server_address[1]}/ARCHIVE", "--quiet", "2"]
        gateway = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            measure(folder, gateway, port, count)
        finally:
            gateway.terminate()
            gateway.wait()
            store.shutdown()


def measure(folder: Path, gateway: subprocess.Popen[bytes], port: int, count: int) -> None:
    while not listens(port):
        time.sleep(0.1)
    idle = memory_mb(gateway.pid)
    studies = [make_study(folder / str(number), number) for number in range(count)]
    begin = time.monotonic()
    for files in studies:
        send(port, files)
    received = time.monotonic() - begin
    queue = Queue(folder / "inbox" / "queue.sqlite")
    while [row.state for row in queue.studies()] != ["sent"] * count:
        time.sleep(0.5)
    seconds, cores = time.monotonic() - begin, len(os.sched_getaffinity(0))
    sys.stdout.write(
        f"{count} studies: received after {received:.0f} s, all results sent after {seconds:.0f} s: "
        f"{3600 * count / seconds:.0f} an hour on {cores} cores, {3600 * count / seconds / cores:.0f} a core\n"
        f"node: {idle:.0f} MB before the first study, {memory_mb(gateway.pid):.0f} MB at most\n"
    )


def make_study(folder: Path, number: int) -> list[Path]:
    study, patient = str(generate_uid()), {**NOBODY, "PatientID": f"P{number}"}
    files = []
    for series, name, attributes in ((2, "FLAIR", FLAIR), (3, "T1w", T1W)):
        volume = read_image(DEMO / f"sub-lesjak19_{name}.nii.gz")
        files += write_mr_series(folder, volume, attributes, study=study, number=series, description=name, patient=patient)
    return files


def send(port: int, files: list[Path]) -> None:
    scanner = AE("SCANNER")
    scanner.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    association = scanner.associate("127.0.0.1", port, ae_title="VERIDICE")
    for file in files:
        status = association.send_c_store(dcmread(file)).get("Status")
        if status != 0:
            sys.exit(f"an image was refused with status {status}")
    association.release()


def memory_mb(process: int) -> float:
    """The most that a process has had."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
