"""An Orthanc on loopback, and where the programs that tests call are."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PLUGINS = Path("/usr/share/orthanc/plugins")  # Debian's


@dataclass(frozen=True)
class Archive:
    """An Orthanc that runs.

    Attributes:
        address: Of its REST interface.
        port: Where it takes DICOM associations.
    """

    address: str
    port: int

    @property
    def dicomweb(self) -> str:
        """Root of QIDO-RS, WADO-RS and STOW-RS, where the plugin is loaded."""
        return f"{self.address}/dicom-web"

    def rest(self, path: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(self.address + path, data=body), timeout=30) as answer:
            return answer.read()

    def id_of(self, sop_instance_uid: str) -> str:
        """Orthanc's own name of an instance."""
        (found,) = json.loads(self.rest("/tools/lookup", str(sop_instance_uid).encode()))
        return found["ID"]

    def file(self, sop_instance_uid: str) -> bytes:
        """An instance as it is stored."""
        return self.rest(f"/instances/{self.id_of(sop_instance_uid)}/file")

    def c_store(self, paths: Iterable[Path]) -> None:
        send = [tool("storescu"), "-R", "127.0.0.1", str(self.port), *(str(p) for p in paths)]
        subprocess.run(send, check=True, timeout=60)


@contextmanager
def orthanc(folder: Path, *, dicomweb: bool = False) -> Iterator[Archive]:
    """An empty archive that keeps its files in a folder and lives as long as the block."""
    program = tool("Orthanc")
    archive = Archive(f"http://127.0.0.1:{free_port()}", free_port())
    settings = {
        "HttpPort": int(archive.address.rpartition(":")[2]),
        "DicomPort": archive.port,
        "RemoteAccessAllowed": False,
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "Plugins": [plugin("OrthancDicomWeb")] if dicomweb else [],
        "DicomWeb": {"Enable": dicomweb, "Root": "/dicom-web/"},
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
    }
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([program, str(configuration)], stdout=log, stderr=log)
        try:
            wait_for(archive, server)
            yield archive
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def wait_for(archive: Archive, server: subprocess.Popen) -> None:
    for _ in range(100):
        if server.poll() is not None:
            pytest.fail("Orthanc ended at once")
        try:
            archive.rest("/system")
            return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    pytest.fail("Orthanc did not answer within 10 s")


def tool(name: str) -> str:
    path = shutil.which(name, path=os.environ["PATH"] + os.pathsep + "/usr/sbin")  # Debian's place of servers
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def plugin(name: str) -> str:
    path = PLUGINS / f"lib{name}.so"
    if not path.exists():
        pytest.skip(f"Orthanc's plugin {name} is not installed in {PLUGINS}")
    return str(path)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
