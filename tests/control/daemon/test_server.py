"""Tests for `wattline.control.daemon.server`, `client` and `start`: real sockets, real processes, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from wattline.control import Client, ControlError, lease
from wattline.control.daemon.server import Options
from wattline.control.daemon.system import bind, tls_context
from wattline.control.devices import nvidia
from wattline.control.devices.simulated import SimulatedGpu
from wattline.core.errors import InputError
from wattline.measure.devices.replay import VirtualClock

from ...waiting import until
from .serve import ALL, serving

WATTLINE = [sys.executable, "-c", "import sys; from wattline.show.cli.main import main; sys.exit(main(sys.argv[1:]))"]


@pytest.fixture
def gpus():
    return [SimulatedGpu(f"SIM-{k}", found=600.0) for k in range(3)]


def raw(path: Path) -> socket.socket:
    """A connection that says what it likes."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(path))
    return sock


def lines(sock: socket.socket) -> list[dict]:
    """Everything that is answered until the other side hangs up."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(65536):
            data += part
    return [json.loads(line) for line in data.splitlines()]


def test_a_lease_through_the_daemon(gpus, tmp_path):
    """The same calls as without a daemon; leaving puts back what was found and hangs up."""
    with serving(gpus, tmp_path) as daemon:
        with lease("SIM-1", daemon=tmp_path / "daemon.sock", power_limit=300.0) as held:
            assert held.set(clock=1.2e9) == {"clock": 1.2e9}
            assert held.read() == {"power_limit": 300.0, "clock": 1.2e9, "memory_clock": None}
            assert held.ranges["clock"].choices == gpus[1].range("clock").choices
            with pytest.raises(ControlError, match="above 600 W, the limit that was found") as caught:
                held.set(power_limit=650.0)
            assert caught.value.code == "range"
        assert (gpus[1].read("power_limit"), gpus[1].read("clock")) == (600.0, None)
        with pytest.raises(ControlError, match="over"):
            held.set(clock=1.2e9)
        assert held.close() == []
        assert until(lambda: not daemon.connections)


def test_the_environment_names_the_daemon(gpus, tmp_path, monkeypatch):
    """WATTLINE_DAEMON is where `lease` looks; where nobody answers, that is said."""
    monkeypatch.setenv("WATTLINE_DAEMON", str(tmp_path / "daemon.sock"))
    with pytest.raises(ControlError, match="did not answer") as caught:
        lease("SIM-0")
    assert caught.value.code == "closed"
    with serving(gpus, tmp_path), lease("SIM-0", power_limit=300.0):
        assert gpus[0].read("power_limit") == 300.0


def test_heartbeats_keep_a_lease_and_silence_ends_it(gpus, tmp_path):
    """A client that lives keeps its lease past its ttl; one that says nothing loses it."""
    clock, beats = VirtualClock(), []
    with serving(gpus, tmp_path, clock=clock), Client(tmp_path / "daemon.sock") as client:
        held = client.take("SIM-0", ttl=0.3, power_limit=300.0)
        beat = held.beat
        held.beat = lambda: beats.append(beat())
        for _ in range(4):  # each time two thirds of what the lease may go without a word
            heard = len(beats)
            assert until(lambda heard=heard: len(beats) > heard)
            clock.advance(0.2)
        assert gpus[0].read("power_limit") == 300.0
        held._ended.set()  # its thread says no more, as in a process that is stopped
        assert until(lambda: clock.advance(0.1) or gpus[0].read("power_limit") == 600.0)
        with pytest.raises(ControlError) as caught:
            held.set(power_limit=300.0)
        assert caught.value.code in ("stale", "unknown")
        assert held.over


CLIENT = """
import signal, sys
from wattline.control import lease
held = lease("SIM-0", daemon=sys.argv[1], power_limit=300.0, clock=1.2e9)
print("held", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_client_gives_back(gpus, tmp_path, number):
    """However a client ends, the daemon puts back what was found, well before the lease would expire."""
    with serving(gpus, tmp_path):
        child = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(tmp_path / "daemon.sock")],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()
        assert gpus[0].read("power_limit") == 300.0
        child.send_signal(number)
        assert until(lambda: gpus[0].read("power_limit") == 600.0)
        assert until(lambda: gpus[0].read("clock") is None)
        child.wait()
        child.stdout.close()


def test_a_stopped_daemon_gives_back_and_its_clients_are_told(gpus, tmp_path):
    """A daemon that ends puts everything back; a lease of it is over and says so."""
    with serving(gpus, tmp_path):
        client = Client(tmp_path / "daemon.sock")
        held = client.take("SIM-0", power_limit=300.0)
    assert gpus[0].read("power_limit") == 600.0
    assert not (tmp_path / "daemon.sock").exists()
    with pytest.raises(ControlError):
        held.set(power_limit=310.0)
    assert held.over
    client.close()


def test_one_daemon_a_socket(gpus, tmp_path):
    """A second daemon does not take over a socket that is served; one left by a dead daemon is replaced."""
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "daemon.sock"))
    dead.close()
    with serving(gpus, tmp_path):
        assert (tmp_path / "daemon.sock").stat().st_mode & 0o777 == 0o600
        with pytest.raises(InputError, match="already serving"):
            bind(tmp_path / "daemon.sock", None)
        with pytest.raises(InputError, match="no group 'nosuch'"):
            bind(tmp_path / "other.sock", "nosuch")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_the_kernel_tells_users_apart(gpus):
    """A process of another user is denied what root may do, whatever it says of itself."""
    policy = '[[allow]]\nusers = ["root"]\ndevices = ["*"]\npower_limit = true'
    # Not in pytest's folder, which is root's alone.
    with tempfile.TemporaryDirectory(prefix="wattline-") as place, serving(gpus, Path(place), policy):
        Path(place).chmod(0o755)
        path = Path(place) / "daemon.sock"
        path.chmod(0o666)
        code = (
            "import os, sys\nfrom wattline.control import Client, ControlError\nclient = Client(sys.argv[1])\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "print(client.hello()['you'])\ntry:\n    client.take('SIM-0', power_limit=300.0)\n"
            "except ControlError as e:\n    print(e.code)"
        )
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["nobody", "denied"]
        assert gpus[0].writes == 0
        with lease("SIM-0", daemon=path, power_limit=300.0):
            assert gpus[0].read("power_limit") == 300.0


# ---- hostile peers -------------------------------------------------------------------------------


def test_a_long_line_ends_the_connection(gpus, tmp_path):
    """A line without an end is refused at its bound; what follows is not read."""
    with serving(gpus, tmp_path):
        for data in (b"x" * 100_000, b"x" * 5000 + b"\n" + b'{"v":1,"id":1,"op":"hello"}\n'):
            sock = raw(tmp_path / "daemon.sock")
            with contextlib.suppress(BrokenPipeError):
                sock.sendall(data)
            answers = lines(sock)
            assert [a["error"]["code"] for a in answers] in (["malformed"], [])
            sock.close()


def test_many_malformed_lines_end_the_connection(gpus, tmp_path):
    """A peer that talks nonsense is answered a few times and then hung up on."""
    with serving(gpus, tmp_path):
        sock = raw(tmp_path / "daemon.sock")
        sock.sendall(b"nonsense\n" * 50)
        answers = lines(sock)
        assert 1 <= len(answers) <= 9
        assert {a["error"]["code"] for a in answers} == {"malformed"}
        sock.close()


def test_raw_bytes_do_no_harm(gpus, tmp_path):
    """Random bytes, cut and mixed with true messages, hang-ups at any byte: no change goes through, others are served."""
    rng = random.Random(7)
    hello = b'{"v":1,"id":1,"op":"hello"}\n'
    with serving(gpus, tmp_path) as daemon:
        for _ in range(150):
            sock = raw(tmp_path / "daemon.sock")
            parts = [
                rng.choice(
                    (rng.randbytes(rng.randrange(200)), hello, hello[: rng.randrange(len(hello))], b"\n\n", b"\0" * 64)
                )
                for _ in range(rng.randrange(1, 6))
            ]
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for part in parts:
                    sock.sendall(part)
            sock.close()
        assert all(gpu.writes == 0 for gpu in gpus)
        with lease("SIM-0", daemon=tmp_path / "daemon.sock", power_limit=300.0) as held:
            assert held.read()["power_limit"] == 300.0
        assert until(lambda: not daemon.service.sessions)


def test_pipelined_messages_are_answered_in_order(gpus, tmp_path):
    """Many messages at once get one answer each, in order, slow and quick ones mixed."""
    with serving(gpus, tmp_path):
        sock = raw(tmp_path / "daemon.sock")
        ops = [{"op": "devices"} if k % 3 else {"op": "hello"} for k in range(60)]
        sock.sendall(b"".join(json.dumps({"v": 1, "id": k, **op}).encode() + b"\n" for k, op in enumerate(ops)))
        sock.shutdown(socket.SHUT_WR)
        file = sock.makefile("rb")
        assert [json.loads(file.readline())["id"] for _ in range(60)] == list(range(60))
        file.close()
        sock.close()


@pytest.mark.parametrize("together", [1, 1000])
def test_a_client_that_does_not_read_holds_up_nobody(gpus, tmp_path, together):
    """Answers that are not read stay with their client; others are served, and memory does not grow with them."""
    with serving(gpus, tmp_path) as daemon:
        sock = raw(tmp_path / "daemon.sock")
        sock.settimeout(0.5)
        flood, sent, most = b'{"v":1,"id":1,"op":"hello"}\n' * together, 0, 8 << 20
        # It reads nothing, so before long nothing more is taken from it.
        with contextlib.suppress(TimeoutError):
            while sent < most:
                sent += sock.send(flood)
        with lease("SIM-0", daemon=tmp_path / "daemon.sock", power_limit=300.0) as held:
            assert held.read()["power_limit"] == 300.0
        assert until(lambda: len(daemon.connections) == 1)
        assert sent < most
        assert all(len(hog._buffer) < 1 << 20 for hog in daemon.connections)
        sock.close()


def test_idle_connections_are_closed_and_leases_kept(gpus, tmp_path, monkeypatch):
    """A connection that holds nothing and says nothing is closed after a while; one that holds a device is not."""
    monkeypatch.setattr("wattline.control.daemon.server.IDLE_SECONDS", 0.2)
    with serving(gpus, tmp_path), Client(tmp_path / "daemon.sock") as client:
        held = client.take("SIM-0", power_limit=300.0)
        idle = raw(tmp_path / "daemon.sock")
        assert lines(idle) == []
        idle.close()
        assert held.set(power_limit=310.0) == {"power_limit": 310.0}


def test_too_many_connections_are_turned_away(gpus, tmp_path):
    """Beyond the policy's number a connection is told so and closed; when one leaves there is room again."""
    with serving(gpus, tmp_path, "[limits]\nconnections = 1") as daemon:
        first = raw(tmp_path / "daemon.sock")
        assert until(lambda: daemon.service.sessions)
        second = raw(tmp_path / "daemon.sock")
        assert [a["error"]["code"] for a in lines(second)] == ["busy"]
        first.close()
        second.close()
        assert until(lambda: not daemon.service.sessions)
        with Client(tmp_path / "daemon.sock") as client:
            assert client.hello()["version"] == 1


def test_many_clients_at_once(tmp_path):
    """Hundreds of clients hold a device each and set it; when they hang up everything is as it was found."""
    many = [SimulatedGpu(f"SIM-{k:03}", found=600.0) for k in range(300)]
    with serving(many, tmp_path) as daemon:
        socks = [raw(tmp_path / "daemon.sock") for _ in many]
        files = [sock.makefile("rwb") for sock in socks]

        def say(op, **fields):
            for k, file in enumerate(files):
                told = {n: v[k] if isinstance(v, list) else v for n, v in fields.items()}
                file.write(json.dumps({"v": 1, "id": k, "op": op, **told}).encode() + b"\n")
                file.flush()
            return [json.loads(file.readline()) for file in files]

        taken = say("take", device=[g.uuid for g in many], settings={"power_limit_w": 300})
        leases = [a["result"]["lease"] for a in taken]
        assert len(set(leases)) == len(many)
        done = say("set", lease=leases, settings={"clock_hz": 1.2e9})
        assert all(a["ok"] for a in done)
        assert all(g.read("power_limit") == 300.0 and g.read("clock") == 1.2e9 for g in many)
        for file, sock in zip(files, socks, strict=True):
            file.close()
            sock.close()
        assert until(lambda: not daemon.service.keeper.leases)
        assert all(g.read("power_limit") == 600.0 and g.read("clock") is None for g in many)


def test_another_tool_is_noticed_without_being_asked(gpus, tmp_path, monkeypatch):
    """The daemon compares leases with their devices from time to time; one that was disturbed ends."""
    monkeypatch.setattr("wattline.control.daemon.server.ROUND", 0.1)
    with serving(gpus, tmp_path), Client(tmp_path / "daemon.sock") as client:
        held = client.take("SIM-0", power_limit=300.0, clock=1.2e9)
        gpus[0].write("power_limit", 250.0)
        assert until(lambda: gpus[0].read("clock") is None)
        with pytest.raises(ControlError, match=r"another tool|no such lease"):
            held.set(clock=1.2e9)
        assert gpus[0].read("power_limit") == 250.0


# ---- processes -----------------------------------------------------------------------------------


def start(tmp_path: Path, *more: str, policy: str = ALL) -> subprocess.Popen[str]:
    """A real `wattline daemon`, once it serves."""
    (tmp_path / "policy.toml").write_text(policy)
    (tmp_path / "policy.toml").chmod(0o600)
    command = ["daemon", "--socket", str(tmp_path / "daemon.sock"), "--policy", str(tmp_path / "policy.toml")]
    process = subprocess.Popen(
        [*WATTLINE, *command, "--state", str(tmp_path / "state"), *more], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "serving" in line:
            break
    return process


def finish(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    process.send_signal(number)
    assert process.stderr is not None
    text = process.stderr.read()
    process.stderr.close()
    return process.wait(20), text


def test_a_killed_daemon_is_cleaned_up_after(fake_nvml, tmp_path):
    """kill -9 in the middle of a change: the next start, or --recover, puts back what was found."""
    fake_nvml(found=450, state=tmp_path / "knobs", latency=0.2)
    device = nvidia.find()[0][0]
    for again in ("start", "recover"):
        process = start(tmp_path)
        client = Client(tmp_path / "daemon.sock")
        held = client.take(device.uuid, clock=1.2e9)
        worker = threading.Thread(
            target=lambda h=held: contextlib.suppress(ControlError).__enter__() and h, daemon=True
        )

        def change(held=held) -> None:
            with contextlib.suppress(ControlError):
                held.set(power_limit=300.0)

        worker = threading.Thread(target=change)
        worker.start()
        # In force, but its call has not returned: the middle of a change.
        assert until(lambda: device.read("power_limit") == 300.0)
        assert finish(process, signal.SIGKILL)[0] == -signal.SIGKILL
        worker.join(10)
        client.close()
        assert device.read("power_limit") == 300.0
        if again == "start":
            assert finish(start(tmp_path), signal.SIGTERM)[0] == 0
        else:
            done = subprocess.run(
                [*WATTLINE, "daemon", "--recover", "--state", str(tmp_path / "state")],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0
            assert "put back to power limit 450 W, clock free" in done.stderr
        assert device.read("power_limit") == 450.0
        assert device._running("clock") == 1.5e9
        assert not list((tmp_path / "state/found").iterdir())


def test_a_policy_is_read_anew_on_a_signal(tmp_path):
    """SIGHUP changes what is allowed without ending leases; a bad file changes nothing; SIGTERM ends in order."""
    process = start(tmp_path, "--simulate", "1", "--dry-run")
    with Client(tmp_path / "daemon.sock") as client:
        assert client.hello()["dry_run"]
        held = client.take("0", power_limit=300.0)
        seven = '[[allow]]\nusers=["*"]\ndevices=["*"]\nclock=true\nrate=7'
        for text, rate, said in (("[[bad", 100000.0, "stays as it was"), (seven, 7.0, "read anew")):
            (tmp_path / "policy.toml").write_text(text)
            process.send_signal(signal.SIGHUP)
            assert process.stderr is not None
            assert any(said in line for line in process.stderr)
            assert client.hello()["rate_per_s"] == rate
        with pytest.raises(ControlError, match="may not set power_limit"):
            held.set(power_limit=310.0)
        assert held.set(clock=1.2e9)
    assert finish(process, signal.SIGTERM)[0] == 0


def test_without_a_policy_file_the_daemon_says_that_it_denies(tmp_path, monkeypatch):
    """The default is to deny, and the operator is told."""
    from wattline.control.daemon import start as starting

    monkeypatch.setattr(starting, "PLACE", tmp_path / "none.toml")
    asked = starting.Asked(options=Options(socket=tmp_path / "s"), state=tmp_path, simulate=1)
    assert "0 rules" in starting.check(asked)
    with pytest.raises(InputError, match="HOST:PORT"):
        starting.address("9470", "--metrics")
    assert starting.address("[::1]:9470", "--metrics") == ("::1", 9470)


def test_metrics_are_served(gpus, tmp_path):
    """Prometheus gets its metrics at /metrics, and nothing else anywhere else."""
    with serving(gpus, tmp_path, metrics=("127.0.0.1", 0)) as daemon:
        (port,) = daemon.ports()
        for path, status in (("/metrics", b"200 OK"), ("/", b"404"), ("/metrics/../..", b"404")):
            with socket.create_connection(("127.0.0.1", port), 10) as sock:
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                text = b""
                while part := sock.recv(4096):
                    text += part
            assert status in text.split(b"\r\n")[0]
            assert (b"wattline_daemon_sessions" in text) == (status == b"200 OK")


# ---- TLS -----------------------------------------------------------------------------------------


def openssl(*words: str, cwd: Path) -> None:
    subprocess.run(["openssl", *words], cwd=cwd, check=True, capture_output=True)


@pytest.fixture
def certificates(tmp_path):
    """An authority, a server's and a client's certificate, and a client's of another authority."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: certificates cannot be made")
    for name in ("authority", "stranger"):
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", cwd=tmp_path,
        )  # fmt: skip
    for name, signer in (("localhost", "authority"), ("trainer-1", "authority"), ("intruder", "stranger")):
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
            "-addext", f"subjectAltName=DNS:{name}", "-keyout", f"{name}.key", "-out", f"{name}.csr", cwd=tmp_path,
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", f"{signer}.pem", "-CAkey", f"{signer}.key", "-CAcreateserial",
            "-days", "2", "-copy_extensions", "copy", "-out", f"{name}.pem", cwd=tmp_path,
        )  # fmt: skip
    return tmp_path


def test_mutual_tls(gpus, certificates):
    """A client is who its certificate says, if our authority signed it; without one there is no conversation."""
    at = certificates
    policy = '[[allow]]\nusers = ["cert:trainer-*"]\ndevices = ["SIM-0"]\npower_limit = true'
    options = {
        "listen": ("127.0.0.1", 0), "certificate": at / "localhost.pem", "key": at / "localhost.key",
        "authority": at / "authority.pem",
    }  # fmt: skip
    with serving(gpus, at, policy, **options) as daemon:
        (port,) = daemon.ports()

        def client(name: str, authority: str = "authority") -> Client:
            return Client(f"localhost:{port}", tls=(at / f"{name}.pem", at / f"{name}.key", at / f"{authority}.pem"))

        with client("trainer-1") as trainer:
            assert trainer.hello()["you"] == "cert:trainer-1"
            with trainer.take("SIM-0", power_limit=300.0):
                assert gpus[0].read("power_limit") == 300.0
            with pytest.raises(ControlError, match="no device called 'SIM-1'"):
                trainer.take("SIM-1", power_limit=300.0)
        with client("intruder") as intruder, pytest.raises(ControlError) as caught:
            intruder.hello()
        assert caught.value.code == "closed"
        with client("trainer-1", "stranger") as deceived, pytest.raises(ControlError, match="did not answer"):
            deceived.hello()
        with pytest.raises(ControlError, match="needs tls"):
            Client(f"localhost:{port}").hello()
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            plain.sendall(b'{"v":1,"id":1,"op":"hello"}\n')
            with contextlib.suppress(ConnectionError):
                assert b"result" not in plain.recv(4096)
    with pytest.raises(InputError, match="mutual TLS"):
        tls_context(at / "localhost.pem", None, None)


# ---- systemd -------------------------------------------------------------------------------------


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    """The packaged unit names the running program and is sound."""
    done = subprocess.run([*WATTLINE, "daemon", "--unit"], capture_output=True, text=True, check=True)
    assert "@WATTLINE@" not in done.stdout
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: the unit cannot be checked")
    program = shutil.which("true")
    lines_ = [f"ExecStart={program}" if s.startswith("ExecStart=") else s for s in done.stdout.splitlines()]
    lines_ = [f"ExecStopPost={program}" if s.startswith("ExecStopPost=") else s for s in lines_]
    (tmp_path / "wattline.service").write_text("\n".join(lines_))
    checked = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "wattline.service"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "wattline.service" not in checked.stderr


def test_systemd_is_told_when_clients_may_connect(gpus, tmp_path, monkeypatch):
    """READY and STOPPING go to the socket that systemd names."""
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(tmp_path / "notify"))
    told.settimeout(5)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with serving(gpus, tmp_path):
        assert told.recv(100) == b"READY=1"
    assert told.recv(100) == b"STOPPING=1"
    told.close()
