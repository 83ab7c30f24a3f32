"""Tests every meter by one suite of what a meter must keep, and each source over a simulated tree."""

from __future__ import annotations

import http.server
import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from wattline.measure import contain, find
from wattline.measure.devices import amd, apple, cpu, hwmon, jetson, node, nvidia
from wattline.measure.devices.replay import ReplayMeter, VirtualClock
from wattline.measure.meter import CallableMeter, Meter, MeterError, State
from wattline.measure.monitor import Monitor
from wattline.measure.result import SCOPES

from .drive import Driver


def write(root: Path, **files: object) -> Path:
    """A folder of small files; ``__`` in a name stands for ``/``."""
    for name, value in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def zone(root: Path, name: str, label: str, energy: int = 1_000_000, most: int = 262_143_328_850) -> Path:
    """A powercap zone."""
    return write(root / name, name=label, energy_uj=energy, max_energy_range_uj=most)


def rapl(root: Path) -> list[Meter]:
    zone(root, "intel-rapl:0", "package-0")
    return cpu.find(root)[0]


def gpu_files(root: Path) -> list[Meter]:
    write(root / "hwmon0", name="xe", energy1_input=5_000_000, temp1_input=45000)
    return hwmon.find(root)[0]


def amd_files(root: Path) -> list[Meter]:
    write(root / "hwmon3", name="amdgpu", power1_average=90_000_000, device__unique_id="0xabc")
    return amd.find(root)[0]


def board(root: Path) -> list[Meter]:
    write(root / "1-0040/hwmon/hwmon2", in1_label="VDD_IN", in1_input=5000, curr1_input=2000)
    return jetson.find(root)[0]


def fake_smi() -> SimpleNamespace:
    """A stand-in for AMD's module: one device, 15.3 uJ per tick."""
    return SimpleNamespace(
        amdsmi_init=lambda: None,
        amdsmi_get_processor_handles=lambda: ["h"],
        amdsmi_get_gpu_device_uuid=lambda _: "uuid-1",
        amdsmi_get_energy_count=lambda _: {"energy_accumulator": 1_000_000, "counter_resolution": 15.3, "timestamp": 1},
    )


MAKERS = {
    "replay": lambda _: [ReplayMeter(100.0, clock=VirtualClock())],
    "callable": lambda _: [CallableMeter(lambda: 230.0, "strip", "wall", method="power-integral")],
    "rapl": rapl,
    "hwmon": gpu_files,
    "amd": amd_files,
    "amdsmi": lambda root: amd.find(root, smi=fake_smi())[0],
    "jetson": board,
    "ipmi": lambda _: [node.IpmiMeter(["echo", "Instantaneous power reading:  220 Watts"])],
}


def keeps_the_contract(meter: Meter) -> None:
    """What every meter must keep."""
    assert meter.scope in SCOPES
    assert meter.method in ("counter", "power-integral", "estimated")
    assert meter.host
    assert meter.uuid
    assert meter.key == f"{meter.host}/{meter.uuid}/{meter.scope}"
    assert meter.name
    assert 0 < meter.observed <= 1
    assert meter.key not in meter.within
    first = meter.read()
    assert isinstance(first, float)
    assert first >= 0
    if meter.method == "counter":
        assert meter.read() >= first
    state = meter.state()
    assert isinstance(state, State)
    assert state.clock is None or state.clock > 1e6 or state.clock == 0
    # Several threads may read at once.
    seen: list[float] = []
    threads = [threading.Thread(target=lambda: seen.append(meter.read())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4
    meter.close()
    meter.close()


@pytest.mark.parametrize("kind", MAKERS)
def test_every_meter_keeps_the_contract(kind, tmp_path):
    """Identity, units, threads and closing are the same for every kind of meter."""
    meters = MAKERS[kind](tmp_path)
    assert meters
    for meter in meters:
        keeps_the_contract(meter)


def test_the_nvidia_meter_keeps_the_contract(fake_nvml):
    """So does the real NVML client on the simulated library."""
    fake_nvml(devices=2)
    for meter in nvidia.find()[0]:
        keeps_the_contract(meter)


def test_rapl_zones_and_what_contains_them(tmp_path):
    """Two sockets with core and memory: core is inside its package, memory beside it, all inside the platform."""
    for socket in (0, 1):
        zone(tmp_path, f"intel-rapl:{socket}", f"package-{socket}", energy=10**6 * (socket + 50))
        zone(tmp_path, f"intel-rapl:{socket}:0", "core", energy=10**7 * (socket + 1))
        zone(tmp_path, f"intel-rapl:{socket}:1", "dram", energy=10**8 * (socket + 1))
    zone(tmp_path, "intel-rapl:2", "psys", energy=10**9)
    found = {m.uuid: m for m in cpu.find(tmp_path, "h")[0]}
    assert found["package-0"].scope == "cpu"
    assert found["package-1/dram"].scope == "dram"
    contain.link(list(found.values()))
    assert set(found["package-0/core"].within) == {"h/package-0/cpu", "h/psys/soc"}
    assert found["package-1/dram"].within == ("h/psys/soc",)
    assert found["package-0"].wrap == pytest.approx(262143.32885)


def test_mirrors_are_used_once(tmp_path):
    """The memory-mapped twin of a package, and a die that shows its neighbour's counter, are left out by name."""
    zone(tmp_path, "intel-rapl:0", "package-0", energy=77_000_000)
    zone(tmp_path, "intel-rapl:1", "package-0", energy=77_000_100)
    zone(tmp_path, "intel-rapl:2", "package-0", energy=990_000_000)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", energy=12_000_000)
    meters, missing = cpu.find(tmp_path)
    assert [m.uuid for m in meters] == ["package-0", "package-0#2"]
    assert [m.sensor for m in missing] == ["rapl:intel-rapl:1", "rapl:intel-rapl-mmio:0"]


def test_a_rapl_wrap_is_not_a_loss(tmp_path):
    """A socket whose counter wraps in a window is counted through."""
    folder = zone(tmp_path, "intel-rapl:0", "package-0", most=100_000_000)
    clock = VirtualClock()
    meter = cpu.find(tmp_path)[0][0]
    read = meter.read

    def reading() -> float:
        (folder / "energy_uj").write_text(str(int(clock.now * 1e3) * 50_000 % 100_000_000))
        return read()

    meter.read = reading  # type: ignore[method-assign]
    driver = Driver(Monitor([meter], clock=clock, thread=False), clock)
    part = driver.window(7.0).result.parts[0]
    assert part.joules == pytest.approx(350.0, rel=0.01)
    assert "reset" not in part.flags


def test_permission_comes_with_a_command(tmp_path, monkeypatch):
    """A counter only root may read is missing, with the command that opens it."""
    zone(tmp_path, "intel-rapl:0", "package-0")

    def refuse(path: object, *_: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    meters, missing = cpu.find(tmp_path)
    assert not meters
    assert "permission" in missing[0].reason
    assert missing[0].fix.startswith("sudo chmod a+r")


def test_a_file_that_goes_away_or_holds_rubbish(tmp_path):
    """A zone without a number, or gone, is a reason."""
    folder = zone(tmp_path, "intel-rapl:0", "package-0")
    meter = cpu.find(tmp_path)[0][0]
    (folder / "energy_uj").write_text("rubbish")
    with pytest.raises(MeterError, match="number"):
        meter.read()
    meter.close()
    (folder / "energy_uj").unlink()
    with pytest.raises(MeterError) as caught:
        meter.read()
    assert caught.value.lost


def test_units_of_files(tmp_path):
    """Microjoules, microwatts, millivolts times milliamperes: all become J and W."""
    assert gpu_files(tmp_path / "a")[0].read() == 5.0
    assert amd_files(tmp_path / "b")[0].read() == 90.0
    assert board(tmp_path / "c")[0].read() == 10.0
    assert amd.find(tmp_path, smi=fake_smi())[0][0].read() == pytest.approx(15.3)
    assert gpu_files(tmp_path / "a")[0].state().temperature == 45.0


def test_rails_of_a_board_are_inside_its_input(tmp_path):
    """The input rail of a Jetson holds the others, so that they are not added."""
    write(
        tmp_path / "1-0040/hwmon/hwmon2",
        in1_label="VDD_IN", in1_input=5000, curr1_input=2000,
        in2_label="VDD_CPU_GPU_CV", in2_input=5000, curr2_input=700,
        in3_label="sum of shunt voltages", in3_input=1, curr3_input=1,
    )  # fmt: skip
    meters, _ = jetson.find(tmp_path, "h")
    contain.link(meters)
    assert [m.scope for m in meters] == ["node", "soc"]
    assert meters[1].within == (meters[0].key,)


def test_unknown_hwmon_drivers_are_not_guessed(tmp_path):
    """A rail whose purpose is not known is no scope of ours."""
    write(tmp_path / "hwmon1", name="nvme", power1_input=3_000_000)
    assert hwmon.find(tmp_path) == ([], [])


def test_powermetrics_is_parsed(tmp_path):
    """Samples of powermetrics add up to joules per unit; without root there is an honest reason."""
    text = "*** Sampled system activity (1000.00ms elapsed) ***\\nCPU Power: 1500 mW\\nGPU Power: 500 mW\\n"
    text += "Combined Power (CPU + GPU + ANE): 2000 mW\\n"
    meters, _ = apple.find(["printf", text], force=True)
    deadline = threading.Event()
    for _ in range(100):
        try:
            assert [m.read() for m in meters] == [2.0, 1.5, 0.5]
            break
        except MeterError:
            deadline.wait(0.02)
    else:
        pytest.fail("no sample arrived")
    assert meters[1].within == (meters[0].key,)


def test_ipmi_failures_have_reasons():
    """No tool, no device and no reading are three different sentences."""
    with pytest.raises(MeterError, match="not installed"):
        node.IpmiMeter(["no-such-ipmitool"]).read()
    with pytest.raises(MeterError, match="boom") as caught:
        node.IpmiMeter(["sh", "-c", "echo 'Could not open device: boom' >&2; exit 1"]).read()
    assert "chmod" in caught.value.fix
    with pytest.raises(MeterError, match="DCMI"):
        node.IpmiMeter(["echo", "nothing"]).read()


def test_redfish_over_http():
    """Node power is read from a Redfish server, with the user's name and password."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            body = json.dumps({"PowerControl": [{"PowerConsumedWatts": 412}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        meters, missing = node.find(f"http://me:s%40crt@127.0.0.1:{server.server_port}/redfish/v1/Chassis/1/Power")
        server.shutdown()
        thread.join()
        server.server_close()
    assert not missing
    assert meters[0].slow
    assert seen == ["Basic bWU6c0BjcnQ="]
    assert node.parse_redfish({"PowerWatts": {"Reading": 300.5}}) == 300.5
    with pytest.raises(MeterError):
        node.parse_redfish({"PowerControl": []})


def test_a_node_is_not_asked_unless_configured():
    """Without a setting no controller is contacted; a wrong one is a reason."""
    assert node.find("") == ([], [])
    assert "not an http" in node.find("bmc")[1][0].reason


def test_a_node_contains_its_parts():
    """A wall meter holds the node, which holds the rest of its host and of no other."""
    gpu, host = ReplayMeter(1.0, "g", "gpu", host="h"), ReplayMeter(1.0, "n", "node", host="h")
    wall, far = ReplayMeter(1.0, "w", "wall", host="h"), ReplayMeter(1.0, "g", "gpu", host="i")
    contain.link([gpu, host, wall, far])
    assert set(gpu.within) == {host.key, wall.key}
    assert host.within == (wall.key,)
    assert far.within == ()


def test_an_empty_machine_has_only_reasons(tmp_path, monkeypatch):
    """Where there is nothing, every source gives a reason and none raises."""
    monkeypatch.setenv("WATTLINE_NVML", str(tmp_path / "none.so"))
    monkeypatch.delenv("WATTLINE_NODE", raising=False)
    meters, missing = find.find(tmp_path)
    assert not [m for m in meters if not m.key.startswith("plug")]
    assert {m.sensor for m in missing} >= {"nvidia", "rapl"}
