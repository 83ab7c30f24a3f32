"""Which container of which pod has which device, from the kubelet of this node.

The kubelet serves ``v1.PodResourcesLister`` at a Unix socket (Kubernetes, "Monitoring device plugin resources"). Its
answer is read field by field as Protocol Buffers write them:

    ListPodResourcesResponse  1: pods      PodResources  1: name, 2: namespace, 3: containers
    ContainerResources        1: name, 2: devices        ContainerDevices  1: resource, 2: ids
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from .grpc import GrpcError, call

SOCKET: Final = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
METHOD: Final = "/v1.PodResourcesLister/List"


class Owner(NamedTuple):
    """A container of a pod."""

    pod: str
    namespace: str
    container: str


def owners(path: Path = SOCKET) -> dict[str, Owner]:
    """The container of each device by its id: a UUID of a GPU or of an instance of MIG.

    A device that is shared in time has the id of its UUID and a number behind ``::``; its first owner stands.

    Raises
    ------
    GrpcError : the kubelet did not answer, or not with what it should.
    """
    found: dict[str, Owner] = {}
    try:
        for pod in _messages(call(str(path), METHOD), 1):
            name, namespace = _text(pod, 1), _text(pod, 2)
            for container in _messages(pod, 3):
                owner = Owner(name, namespace, _text(container, 1))
                for devices in _messages(container, 2):
                    for device in _messages(devices, 2):
                        found.setdefault(device.decode().partition("::")[0], owner)
    except (IndexError, UnicodeDecodeError) as error:
        raise GrpcError(f"{path} answered with what is no list of pods ({type(error).__name__})") from None
    return found


def _messages(data: bytes, number: int) -> Iterator[bytes]:
    """Every value of a field that has a length."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise IndexError("cut short")
            if key >> 3 == number:
                yield data[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise IndexError("no such kind of field")


def _text(data: bytes, number: int) -> str:
    return next(_messages(data, number), b"").decode()


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
