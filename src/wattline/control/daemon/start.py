"""From what an operator typed to a daemon that runs: devices, policy, state, and what to do instead of serving."""

from __future__ import annotations

import gc
import shutil
import sys
from pathlib import Path

import msgspec

from ...core.errors import InputError
from ..devices.find import find
from ..devices.simulated import SimulatedGpu
from ..leases.actuator import Actuator
from ..leases.journal import state_folder
from ..leases.keeper import Keeper
from .policy import PLACE, Policy, load
from .server import Daemon, Options
from .service import Service
from .system import private, say


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed. policy, state : None for the usual places. simulate : so many simulated devices instead."""

    options: Options
    policy: Path | None = None
    state: Path | None = None
    dry_run: bool = False
    simulate: int = 0


def serve(asked: Asked) -> int:
    """Serve until a signal."""
    keeper = _keeper(asked)
    policy = _policy(asked)
    if not policy.rules:
        say(f"{policy.source} allows nothing, so every change will be denied")
    service = Service(keeper, policy, lambda: _devices(asked, keeper.folder))
    daemon = Daemon(service, asked.options, lambda: _policy(asked))

    def ready() -> None:
        places = [str(asked.options.socket)] if asked.options.socket else []
        places += [f"port {port}" for port in daemon.ports()]
        # What is here now stays: looking through it again and again would hold everyone up for milliseconds.
        gc.collect()
        gc.freeze()
        say(f"serving {len(keeper.actuators)} devices at {', '.join(places)}{' (dry run)' if asked.dry_run else ''}")

    daemon.run(ready)
    return 0


def recover(asked: Asked) -> int:
    """Put back what owners that died had found, and end; 1 if something could not be put back."""
    with _keeper(asked) as keeper:
        notes = keeper.recover()
    for note in notes:
        say(note)
    return int(any("was put back to" not in note for note in notes))


def check(asked: Asked) -> str:
    """What a policy says, in a few lines; a mistake is an error."""
    policy = _policy(asked)
    lines = [f"{policy.source}: {len(policy.rules)} rules"]
    for rule in policy.rules:
        knobs = ", ".join(rule.bounds)
        lines.append(f"  {', '.join(rule.users)} may set {knobs} of {', '.join(rule.devices)}")
    return "\n".join(lines)


def unit() -> str:
    """The systemd unit, for the `wattline` that is running."""
    text = (Path(__file__).parent / "data" / "wattline.service").read_text()
    return text.replace("@WATTLINE@", shutil.which("wattline") or str(Path(sys.argv[0]).resolve()))


def address(text: str, option: str) -> tuple[str, int]:
    """HOST:PORT as a pair."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InputError(f"{option} is HOST:PORT, such as 127.0.0.1:9470, got {text!r}")
    return host.strip("[]"), int(port)


def _keeper(asked: Asked) -> Keeper:
    folder = private(asked.state or state_folder(), "the state folder")
    return Keeper(_devices(asked, folder), folder, dry_run=asked.dry_run)


def _devices(asked: Asked, folder: Path) -> list[Actuator]:
    """The devices to serve; what is missing is said."""
    if asked.simulate:
        (folder / "simulated").mkdir(parents=True, exist_ok=True)
        return [SimulatedGpu(f"SIM-{k}", state=folder / "simulated" / f"SIM-{k}") for k in range(asked.simulate)]
    found, missing = find()
    for each in missing:
        say(f"{each.sensor}: {each.reason}")
    return found


def _policy(asked: Asked) -> Policy:
    """The policy file; the one at the usual place may be missing, and then nothing is allowed."""
    if asked.policy is None and not PLACE.exists():
        return Policy(source=str(PLACE))
    return load(asked.policy or PLACE)
