"""The agent of a node: every device for Prometheus, who has it, and what each job used.

    devices --> monitor --> /metrics        labels that join with dcgm-exporter: UUID, pci_bus_id, pod, hpc_job ...
    kubelet, Slurm -------> owners, energy per job

It only reads. What sets limits is the daemon, a program of its own with privileges of its own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

from ..monitor import Live, Monitor, default
from ..owners.grpc import GrpcError
from ..owners.jobs import Jobs
from ..owners.pods import Owner, owners
from .prometheus import PORT, Exporter, Metric, Sample

# Seconds between looks at the folder of jobs, and at the kubelet.
LOOK: Final = 0.25
PODS: Final = 10.0
# Jobs that ended, whose last figure is still told to scrapes.
ENDED: Final = 256

_INFO: Final = (
    "host", "uuid", "scope", "UUID", "gpu", "device", "modelName", "pci_bus_id", "GPU_I_ID", "DCGM_FI_DRIVER_VERSION",
)  # fmt: skip
_OWNER: Final = ("host", "uuid", "scope", "UUID", "pod", "namespace", "container", "hpc_job", "user")
METRICS: Final = {
    metric.name: metric
    for metric in (
        Metric("wattline_device_info", "gauge", "1 for each device, with labels of other exporters.", _INFO),
        Metric("wattline_device_owner", "gauge", "1 for each device that a container or a job has.", _OWNER),
        Metric("wattline_job_energy_joules_total", "counter", "Energy of a job on this node.", ("hpc_job", "user")),
        Metric("wattline_job_running", "gauge", "1 while a job runs on this node.", ("hpc_job", "user")),
        Metric("wattline_owners_up", "gauge", "1 if the kubelet answered when last asked.", ("source",)),
    )
}


class Agent:
    """A node's agent. Constructing it touches nothing; `start` listens, `close` ends windows of jobs and lets go.

    pods : the kubelet's socket, not asked where None. jobs : what follows jobs, None where there is no scheduler.
    """

    def __init__(
        self,
        monitor: Monitor | None = None,
        *,
        pods: Path | None = None,
        jobs: Jobs | None = None,
        host: str = "127.0.0.1",
        port: int = PORT,
    ) -> None:
        self._monitor, self._pods, self.jobs = monitor, pods, jobs
        self.exporter = Exporter(monitor, host=host, port=port, more=self.samples, metrics=METRICS)
        self._containers: dict[str, Owner] = {}
        self._ended: deque[dict[str, Any]] = deque(maxlen=ENDED)
        self._asked = -PODS
        self._up = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def poll(self, now: float | None = None) -> None:
        """One look at jobs and, every so often, at the kubelet."""
        now = time.monotonic() if now is None else now
        if self.jobs is not None:
            ended = self.jobs.poll()
            with self._lock:
                self._ended.extend(ended)
        if self._pods is not None and now - self._asked >= PODS:
            self._asked = now
            try:
                self._containers, self._up = owners(self._pods), True
            except GrpcError:
                self._containers, self._up = {}, False

    def samples(self) -> list[Sample]:
        """Who has what, and what jobs used."""
        monitor = self._monitor if self._monitor is not None else default()
        found: list[Sample] = []
        held = self.jobs.owners() if self.jobs is not None else {}
        for row in monitor.live():
            base = {"host": row.host, "uuid": row.uuid, "scope": row.scope}
            found.append(("wattline_device_info", {**base, **info(row)}, 1.0))
            job = held.get(row.uuid) or held.get(row.labels.get("index", "")) if row.scope == "gpu" else None
            container = self._containers.get(row.uuid)
            if container is not None or job is not None:
                labels = {**base, "UUID": row.uuid, **(container or Owner("", "", ""))._asdict()}
                labels |= {"hpc_job": job.job if job else "", "user": job.user if job else ""}
                found.append(("wattline_device_owner", labels, 1.0))
        if self.jobs is not None:
            found += self._of_jobs(self.jobs)
        if self._pods is not None:
            found.append(("wattline_owners_up", {"source": "kubelet"}, float(self._up)))
        return found

    def _of_jobs(self, jobs: Jobs) -> list[Sample]:
        found: list[Sample] = []
        running = jobs.joules()
        for job, joules in running.values():
            labels = {"hpc_job": job.job, "user": job.user}
            found.append(("wattline_job_running", labels, 1.0))
            if joules is not None:
                found.append(("wattline_job_energy_joules_total", labels, joules))
        with self._lock:
            last = {row["job"]: row for row in self._ended}
        here = {job.job for job, _ in running.values()}
        for name, row in last.items():
            if name not in here and row["total"]["energy_j"] is not None:
                labels = {"hpc_job": name, "user": row["user"]}
                found.append(("wattline_job_energy_joules_total", labels, row["total"]["energy_j"]))
        return found

    def start(self) -> Agent:
        """Listen and look; an address in use raises OSError."""
        self.exporter.start()
        self._thread = threading.Thread(target=self._loop, name="wattline-agent", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop, and end what is open."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
        if self.jobs is not None:
            self.jobs.close()
        self.exporter.close()

    def __enter__(self) -> Agent:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _loop(self) -> None:
        while not self._stop.wait(LOOK):
            try:
                self.poll()
            except Exception as error:  # a fault here must not end the exporter
                if self.jobs is not None:
                    self.jobs.notes.append(f"{type(error).__name__}: {error}")


def info(row: Live) -> dict[str, str]:
    """A device's labels under the names that dcgm-exporter has for them; what is not known is left out."""
    labels = row.labels
    names = {
        "UUID": row.uuid if row.scope == "gpu" else "",
        "gpu": labels.get("index", ""),
        "device": labels.get("device", ""),
        "modelName": row.name if row.scope == "gpu" else "",
        # dcgm-exporter writes NVML's own domain of eight digits in capitals.
        "pci_bus_id": f"0000{labels['pci'].upper()}" if "pci" in labels else "",
        "GPU_I_ID": labels.get("mig", ""),
        "DCGM_FI_DRIVER_VERSION": labels.get("driver", ""),
    }
    return {name: text for name, text in names.items() if text}
