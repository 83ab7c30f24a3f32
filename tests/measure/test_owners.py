"""Tests for `wattline.measure.owners` and `exporters.agent`: containers from a fake kubelet, jobs, and their labels."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from wattline.measure.devices.replay import ReplayMeter, VirtualClock
from wattline.measure.exporters.agent import METRICS, Agent
from wattline.measure.exporters.prometheus import render
from wattline.measure.monitor import Monitor
from wattline.measure.owners import pods
from wattline.measure.owners.grpc import GrpcError
from wattline.measure.owners.jobs import Jobs, begin, end

from .drive import Driver

# Field types of descriptor.proto: string and message; labels: optional and repeated.
_STRING, _MESSAGE, _ONE, _MANY = 9, 11, 1, 3
FIELDS = {
    "ContainerDevices": [("resource_name", 1, _STRING, _ONE, ""), ("device_ids", 2, _STRING, _MANY, "")],
    "ContainerResources": [("name", 1, _STRING, _ONE, ""), ("devices", 2, _MESSAGE, _MANY, "ContainerDevices")],
    "PodResources": [
        ("name", 1, _STRING, _ONE, ""), ("namespace", 2, _STRING, _ONE, ""),
        ("containers", 3, _MESSAGE, _MANY, "ContainerResources"),
    ],
    "ListPodResourcesResponse": [("pod_resources", 1, _MESSAGE, _MANY, "PodResources")],
}  # fmt: skip


def _classes() -> dict[str, Any]:
    """The kubelet's messages by Google's own library, from the fields that its API states."""
    file = descriptor_pb2.FileDescriptorProto(name="podresources.proto", package="v1", syntax="proto3")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind, label, of in fields:
            added = message.field.add(name=field, number=number, type=kind, label=label)
            if of:
                added.type_name = f".v1.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}")) for name in FIELDS}


MESSAGES = _classes()


def answer(rows: list[tuple[str, str, str, list[str]]]) -> bytes:
    """A list of pods as the kubelet writes it: (pod, namespace, container, device ids)."""
    found = MESSAGES["ListPodResourcesResponse"]()
    for pod, namespace, container, ids in rows:
        added = found.pod_resources.add(name=pod, namespace=namespace)
        added.containers.add(name=container).devices.add(resource_name="nvidia.com/gpu", device_ids=ids)
    return bytes(found.SerializeToString())


@contextlib.contextmanager
def kubelet(path: Path, frames: bytes):
    """A socket that reads a request and answers with these frames of HTTP/2."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.settimeout(5)
                        asked = b""
                        while b"PodResourcesLister/List" not in asked or not asked.endswith(b"\0\0\0\0\0"):
                            asked += connection.recv(65536)
                        connection.sendall(frames)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=5)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def answered(message: bytes) -> bytes:
    """SETTINGS, a PING, the headers (:status 200), the message in two frames of which one is padded, the trailers."""
    body = struct.pack(">BI", 0, len(message)) + message
    half = len(body) // 2
    return (
        frame(4, 0, 0, b"") + frame(6, 0, 0, b"12345678") + frame(1, 4, 1, b"\x88")
        + frame(0, 8, 1, b"\x03" + body[:half] + b"\0\0\0") + frame(0, 0, 1, body[half:]) + frame(1, 5, 1, b"\x88")
    )  # fmt: skip


PODS = [("train-0", "ml", "main", ["GPU-a", "MIG-b"]), ("serve-1", "prod", "vllm", ["GPU-c::2"])]


def test_containers_are_told_by_the_kubelet(tmp_path):
    """Every device of every container, instances of MIG too; a shared one by its UUID."""
    with kubelet(tmp_path / "s", answered(answer(PODS))):
        assert pods.owners(tmp_path / "s") == {
            "GPU-a": ("train-0", "ml", "main"), "MIG-b": ("train-0", "ml", "main"), "GPU-c": ("serve-1", "prod", "vllm"),
        }  # fmt: skip


@pytest.mark.parametrize("frames", [
    b"", frame(7, 0, 0, bytes(8)), frame(3, 0, 1, bytes(4)), frame(1, 5, 1, b"\x88"),
    answered(b"\x0a\xff\xff"), answered(b"\xff" * 40), frame(1, 4, 1, b"\x88") + frame(0, 1, 1, b"\x01\0\0\0\x01x"),
])  # fmt: skip
def test_a_kubelet_that_answers_nonsense_is_an_error_and_no_more(tmp_path, frames):
    """Hung up, refused, reset, no message, cut, compressed: each is one sentence."""
    with kubelet(tmp_path / "s", frames), pytest.raises(GrpcError):
        pods.owners(tmp_path / "s")


def test_no_kubelet_is_an_error(tmp_path):
    """Nobody listens."""
    with pytest.raises(GrpcError, match="No such file"):
        pods.owners(tmp_path / "none")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    """No answer of any shape raises anything but what is caught."""
    with contextlib.suppress(IndexError):
        list(pods._messages(data, 1))


words = st.text("abcdefgh-", min_size=1, max_size=20)


@given(st.lists(st.tuples(words, words, words, st.lists(words, max_size=5)), max_size=8))
def test_lists_are_read_as_google_writes_them(rows):
    """What Google's library writes is read back by ours, field by field."""
    seen = [
        (pods._text(pod, 1), pods._text(pod, 2), pods._text(container, 1), [
            device.decode() for devices in pods._messages(container, 2) for device in pods._messages(devices, 2)
        ])
        for pod in pods._messages(answer(rows), 1)
        for container in pods._messages(pod, 3)
    ]  # fmt: skip
    assert seen == rows


SERVER = """
import sys
from concurrent import futures
import grpc
answer = bytes.fromhex(sys.argv[2])
handler = grpc.unary_unary_rpc_method_handler(lambda request, context: answer)
server = grpc.server(futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": handler}),))
server.add_insecure_port("unix:" + sys.argv[1])
server.start()
print("ready", flush=True)
server.wait_for_termination()
"""


@pytest.mark.skipif(
    "WATTLINE_GRPC_PYTHON" not in os.environ, reason="no gRPC here (WATTLINE_GRPC_PYTHON names a Python)"
)
def test_a_server_of_grpc_s_own_is_asked(tmp_path):
    """The call is one that the real library serves."""
    path = tmp_path / "s"
    command = [os.environ["WATTLINE_GRPC_PYTHON"], "-c", SERVER, str(path), answer(PODS * 200).hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            assert pods.owners(path)["GPU-a"].pod == "train-0"
        finally:
            server.kill()


def node(tmp_path: Path) -> tuple[Agent, Driver, VirtualClock]:
    """An agent over two GPUs of 100 and 200 W, with a folder of jobs."""
    clock = VirtualClock()
    meters = [
        ReplayMeter(watts, uuid, clock=clock, host="n", limit=900.0)
        for uuid, watts in (("GPU-a", 100.0), ("GPU-c", 200.0))
    ]
    for k, meter in enumerate(meters):
        meter.labels.update(
            {"index": str(k), "pci": f"0000:{k + 1:02x}:00.0", "device": f"nvidia{k}", "driver": "999.0"}
        )
    monitor = Monitor(meters, clock=clock, thread=False)
    driver = Driver(monitor, clock)
    return (
        Agent(monitor, pods=tmp_path / "s", jobs=Jobs(monitor, tmp_path / "jobs", tmp_path / "energy")),
        driver,
        clock,
    )


def test_labels_join_with_other_exporters(tmp_path):
    """Devices carry the names that dcgm-exporter has, and their pod, container and job."""
    agent, driver, _ = node(tmp_path)
    begin("4711", "ada", ["1"], tmp_path / "jobs")
    with kubelet(tmp_path / "s", answered(answer(PODS))):
        agent.poll(100.0)
    driver.run(2.0)
    samples = agent.samples()
    owners = {labels["uuid"]: labels for name, labels, _ in samples if name == "wattline_device_owner"}
    assert owners["GPU-a"]["pod"] == "train-0"
    assert owners["GPU-c"] == {
        "host": "n", "uuid": "GPU-c", "scope": "gpu", "UUID": "GPU-c", "pod": "serve-1", "namespace": "prod",
        "container": "vllm", "hpc_job": "4711", "user": "ada",
    }  # fmt: skip
    infos = [labels for name, labels, _ in samples if name == "wattline_device_info"]
    assert infos[0] | {} == {
        "host": "n", "uuid": "GPU-a", "scope": "gpu", "UUID": "GPU-a", "gpu": "0", "device": "nvidia0",
        "modelName": "Replayed device", "pci_bus_id": "00000000:01:00.0", "DCGM_FI_DRIVER_VERSION": "999.0",
    }  # fmt: skip
    agent.jobs.close()


def test_energy_of_a_job_is_told_while_it_runs_and_afterwards(tmp_path):
    """A counter that grows with the job's devices alone and stays when it has ended."""
    agent, driver, _ = node(tmp_path)
    begin("7", "bob", ["0", "GPU-c"], tmp_path / "jobs")
    agent.poll(0.0)
    driver.run(5.0)

    def joules() -> float:
        rows = [
            v
            for name, labels, v in agent.samples()
            if name == "wattline_job_energy_joules_total" and labels["hpc_job"] == "7"
        ]
        return rows[0]

    assert joules() == pytest.approx(1500.0, rel=0.03)
    assert end("7", tmp_path / "jobs", tmp_path / "energy") is None
    agent.poll(1.0)
    kept = end("7", tmp_path / "jobs", tmp_path / "energy")
    assert kept is not None
    assert joules() == pytest.approx(kept["total"]["energy_j"])
    assert ("wattline_owners_up", {"source": "kubelet"}, 0.0) in agent.samples()


def test_openmetrics_is_what_its_parser_takes(tmp_path):
    """Both formats say the same samples to the parsers of Prometheus' own client."""
    agent, driver, _ = node(tmp_path)
    begin("9", 'q"uo\\te', [], tmp_path / "jobs")
    agent.poll(0.0)
    driver.run(3.0)
    openly = list(parse_openmetrics(agent.exporter.text(openmetrics=True)))
    plainly = list(parse_text(agent.exporter.text()))
    assert {f.name for f in openly} >= {"wattline_energy_joules", "wattline_device_info", "wattline_job_energy_joules"}
    assert {s.name for f in openly for s in f.samples} == {s.name for f in plainly for s in f.samples}
    assert {f.name: f.unit for f in openly}["wattline_power_watts"] == "watts"
    assert [s.labels["user"] for f in openly for s in f.samples if s.name == "wattline_job_running"] == ['q"uo\\te']
    assert render([], METRICS, openmetrics=True) == "# EOF\n"
    agent.jobs.close()


def test_a_job_that_is_none_is_told_and_left(tmp_path):
    """A file of another form is a note, once; an id that cannot be a file's name is refused."""
    agent, _, _ = node(tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "x.toml").write_text("job = 3\n")
    agent.poll(0.0)
    agent.poll(1.0)
    assert len(agent.jobs.notes) == 1
    with pytest.raises(ValueError, match="letters"):
        begin("../x", folder=tmp_path / "jobs")
