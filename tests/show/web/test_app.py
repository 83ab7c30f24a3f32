"""Tests for `wattline.show.web.app`: who may ask, how much, and what every answer carries."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from wattline.show.web.app import BODY_LIMIT, POLICY, Settings, create

from ...waiting import until

ROOT = Path(__file__).parents[3]
SERVING = (ROOT / "examples" / "llama-8b-serving.toml").read_text()
TRAINING = (ROOT / "examples" / "llama-70b-training.toml").read_text()


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create(), base_url="http://localhost:8750") as found:
        yield found


def test_a_plan_comes_over_the_wire(client: TestClient):
    """The interface answers with the plan's keys."""
    reply = client.post("/api/plan", json={"scenario": SERVING})
    assert reply.status_code == 200
    assert reply.json()["kind"] == "serving"


@pytest.mark.parametrize("name", ["curtailment", "carbon-week", "site-20mw", "site-simulated", "llama-8b-simulated"])
def test_every_listed_example_is_answered_over_the_wire(client: TestClient, name: str):
    """What the page lists it can draw: fleets with their hours, too, whatever types their numbers have."""
    assert name in client.get("/api/start").json()["examples"]
    example = client.get(f"/api/examples/{name}").json()
    reply = client.post("/api/plan", json={"scenario": example["scenario"], "files": example["files"]})
    assert reply.status_code == 200, reply.text
    assert reply.json()["layers"]


def test_every_answer_carries_the_policy(client: TestClient):
    """The page may run its own scripts and reach its own server, and nothing else."""
    for path in ("/", "/static/studio.js", "/api/start", "/nowhere"):
        headers = client.get(path).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in POLICY


def test_the_page_asks_for_nothing_from_elsewhere():
    """No address of another server stands in what is shipped, namespaces apart."""
    for path in (ROOT / "src/wattline/show/web/static").iterdir():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path
        assert "https://" not in text, path


def test_the_whole_page_is_small():
    """All static files together, uncompressed, stay far under 1.5 MB."""
    assert sum(p.stat().st_size for p in (ROOT / "src/wattline/show/web/static").iterdir()) < 300_000


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"scenario": SERVING, "set": {"serve.rat": "1"}}, 422, "unknown key serve.rat"),
        ({"scenario": SERVING, "set": {"serve.tpot": "1 ms"}}, 422, "cannot be met"),
        ({"scenario": "[serve"}, 422, "not valid TOML"),
        ({"scenario": SERVING, "extra": 1}, 400, "unknown field"),
        ({"set": {}}, 400, "missing required field"),
        ({"scenario": 3}, 400, "Expected `str`"),
    ],
)
def test_bad_input_is_the_librarys_sentence(client: TestClient, body: dict[str, object], status: int, words: str):
    """The message of the library comes through, with its exit code."""
    reply = client.post("/api/plan", json=body)
    assert reply.status_code == status
    assert words in reply.json()["error"]
    assert reply.json()["exit_code"] == (1 if "met" in words else 2)


def test_an_error_marks_its_line(client: TestClient):
    """The line of a wrong value is told."""
    reply = client.post("/api/preview", json={"scenario": SERVING.replace('"8 req/s"', '"-8 req/s"')})
    assert reply.json()["line"] == SERVING.splitlines().index('rate = "8 req/s"') + 1


def test_what_is_not_json_or_too_long_is_refused(client: TestClient):
    """Forms of other sites, and bodies without end."""
    assert client.post("/api/plan", data={"scenario": SERVING}).status_code == 415
    huge = client.post("/api/plan", content=b" " * (BODY_LIMIT + 1), headers={"content-type": "application/json"})
    assert huge.status_code == 413


def test_other_sites_and_names_are_refused(client: TestClient):
    """A page of another site, or a name that was pointed at this machine, gets no answer."""
    assert client.get("/api/start", headers={"origin": "https://example.org"}).status_code == 403
    assert client.get("/api/start", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/api/start", headers={"origin": "http://localhost:8750"}).status_code == 200


def test_paths_do_not_leave_the_static_folder(client: TestClient):
    """Dots, encoded or not, lead nowhere."""
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/api/examples/..%2f..%2fREADME"):
        assert client.get(path).status_code == 404, path


def test_a_token_is_asked_for_and_moves_into_a_cookie():
    """Without it nothing is told; with it once, the address is clean again."""
    with TestClient(create(Settings(token="secret", hosts=("*",))), base_url="http://box:8750") as some:
        assert some.get("/").status_code == 401
        assert some.get("/api/start", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert some.get("/api/start", headers={"authorization": "Bearer secret"}).status_code == 200
        first = some.get("/?token=secret", follow_redirects=False)
        assert (first.status_code, first.headers["location"]) == (303, "/")
        assert "httponly" in first.headers["set-cookie"].lower()
        assert some.get("/api/start").status_code == 200


def test_long_work_is_stopped_and_the_next_request_answered(client: TestClient):
    """A sweep that is stopped ends with a word; the lane starts anew."""
    body = {
        "scenario": TRAINING,
        "task": "long",
        "grid": {"train.tensor": ["8", "4"], "train.pipeline": ["8", "4", "2"]},
    }
    done: list[int] = []
    asking = threading.Thread(target=lambda: done.append(client.post("/api/whatif", json=body).status_code))
    asking.start()
    assert until(lambda: client.get("/api/progress/long").json()["running"])
    assert client.post("/api/stop", json={"task": "long"}).json() == {"stopped": True}
    asking.join(30)
    assert done == [409]
    assert client.post("/api/plan", json={"scenario": SERVING}).status_code == 200
    assert client.post("/api/stop", json={"task": "long"}).json() == {"stopped": False}


def test_the_start_holds_the_scenario_the_server_was_started_on():
    """The page opens on it."""
    with TestClient(create(Settings(ROOT / "examples/deepseek-v3-serving.toml")), base_url="http://localhost") as some:
        assert some.get("/api/start").json()["name"] == "deepseek-v3-serving"
        assert some.get("/api/examples/llama-8b-serving").json()["scenario"] == SERVING
        assert some.get("/api/examples/nothing").status_code == 404


def test_measured_runs_and_devices_are_lists(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An absent store is an empty list, and looking makes none."""
    monkeypatch.setenv("WATTLINE_STORE", f"sqlite:///{tmp_path / 'runs.db'}")
    assert client.get("/api/runs").json() == {"runs": []}
    assert not (tmp_path / "runs.db").exists()
    assert isinstance(client.get("/api/devices").json()["devices"], list)
