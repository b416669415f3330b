"""The network of ops/sandbox/egress: what a program reaches through its proxy, and that it reaches nothing else."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from app.settings import Settings
from tests.architecture.sources import ROOT
from tests.conftest import missing
from tests.integration.sandbox.sandboxes import STACK, run_in, unique, until
from workers.sandbox import Verdict
from workers.sandbox.docker import DockerSandbox

NAME = "clawq-egress-t"
NET = "10.213.78"
SCRIPT = [ROOT / "ops/sandbox/egress/network"]
ENV = {**os.environ, "CLAWQ_EGRESS_NAME": NAME, "CLAWQ_EGRESS_NET": NET}
ALLOWED = "# what may be reached\nallowed.test\n*.wild.test\n"

SERVER = """
import http.server, threading
for port in (80, 443):
    server = http.server.ThreadingHTTPServer(("", port), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever).start()
"""
PROBE = """
import json, os, socket, sys, urllib.error, urllib.request
asked = json.load(sys.stdin)

def fetched(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status
    except urllib.error.HTTPError as exc:
        return exc.code

def tunnelled(target):
    with socket.create_connection(("proxy", 8888), 5) as sock:
        sock.sendall(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n".encode())
        return int(sock.recv(100).split()[1])

def reached(address):
    try:
        socket.create_connection(address, 1).close()
    except OSError:
        return False
    return True

print(json.dumps({
    "fetched": {url: fetched(url) for url in asked["urls"]},
    "tunnelled": {target: tunnelled(target) for target in asked["targets"]},
    "reached": [address for address in asked["addresses"] if reached(address)],
    "interfaces": [line.split(":")[0].strip() for line in open("/proc/net/if_inet6")],
}))
"""


@pytest.fixture(scope="module")
def network(client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The network, up, with a list of our own and a name of its own."""
    image = "clawq-egress:1"
    if os.geteuid() != 0 or not shutil.which("iptables") or not client.images.list(image):
        missing(f"the egress network needs root, iptables and {image} (`ops/airgap/build egress`)")
    allowed = tmp_path_factory.mktemp("egress") / "allowed"
    allowed.write_text(ALLOWED)
    subprocess.run([*SCRIPT, "up", allowed], env=ENV, check=True)
    try:
        yield
    finally:
        subprocess.run([*SCRIPT, "down"], env=ENV, check=True)


@pytest.fixture(scope="module")
def servers(client: docker.DockerClient, network: None) -> Iterator[dict[str, str]]:
    """Servers on ports 80 and 443 outside, and one beside the program: name → address."""
    places = {"allowed.test": f"{NAME}-out", "a.wild.test": f"{NAME}-out", "denied.test": f"{NAME}-out", "beside": NAME}
    made = []
    try:
        for host, place in places.items():
            command = ["python3", "-c", SERVER]
            labels = {"clawq.stack": STACK}
            box = client.containers.create(Settings().sandbox_image, command, name=unique("s"), labels=labels)
            made.append(box)
            client.networks.get("bridge").disconnect(box)
            client.networks.get(place).connect(box, aliases=[host])
            box.start()
        addresses = {host: _address(box, place) for box, (host, place) in zip(made, places.items(), strict=True)}
        until(lambda: all(_listens(box) for box in made))
        yield addresses
    finally:
        for box in made:
            box.remove(force=True)


def _address(box: Any, network: str) -> str:
    box.reload()
    return str(box.attrs["NetworkSettings"]["Networks"][network]["IPAddress"])


def _listens(box: Any) -> bool:
    code = "import socket; socket.create_connection(('127.0.0.1', 443), 1)"
    return bool(box.exec_run(["python3", "-c", code]).exit_code == 0)


@pytest.fixture
def host_server() -> Iterator[int]:
    """A port of this machine, on all of its addresses."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield int(server.getsockname()[1])


def probe(sandbox: DockerSandbox, **asked: Any) -> dict[str, Any]:
    """What a program in the network reaches."""
    proxy = "http://proxy:8888"
    wanted = {"urls": [], "targets": [], "addresses": [], **asked}
    result = run_in(sandbox, PROBE, network=NAME, stdin=json.dumps(wanted), env={"http_proxy": proxy}, wall_s=60)
    assert result.verdict is Verdict.OK, result
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_proxy_fetches_from_the_hosts_of_the_list_and_from_no_others(
    docker_sandbox: DockerSandbox, servers: dict[str, str]
) -> None:
    good = ["http://allowed.test/", "http://ALLOWED.test/", "http://a.wild.test/"]
    bad = [
        "http://denied.test/", "http://wild.test/", "http://allowed-test/", "http://allowed.test.denied.test/",
        "http://x-allowed.test/", "http://allowed.test@denied.test/", f"http://{servers['allowed.test']}/",
        "http://169.254.169.254/", "http://localhost:8888/", "http://proxy/",
    ]  # fmt: skip
    targets = ["allowed.test:443", "denied.test:443", "allowed.test:22", "allowed.test:80"]
    found = probe(docker_sandbox, urls=good + bad, targets=targets)
    assert {url for url, status in found["fetched"].items() if status == 200} == set(good)
    assert {url for url, status in found["fetched"].items() if status == 403} == set(bad)
    assert list(found["tunnelled"].values()) == [200, 403, 403, 403]


def test_nothing_is_reached_but_the_proxy(
    docker_sandbox: DockerSandbox, servers: dict[str, str], host_server: int
) -> None:
    own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    host = [f"{NET}.1", *own - {"127.0.1.1", "127.0.0.1"}]
    everything = [
        *((address, 80) for address in servers.values()),
        *((address, host_server) for address in host),
        ("beside", 80),
        ("169.254.169.254", 80), (f"{NET}.2", 80), (f"{NET}.255", 8888), ("proxy", 8888),
    ]  # fmt: skip
    found = probe(docker_sandbox, addresses=everything)
    assert found["reached"] == [["proxy", 8888]]
    assert found["interfaces"] == [], "no IPv6, not even of the link"


def test_without_the_network_there_is_no_proxy(docker_sandbox: DockerSandbox, servers: dict[str, str]) -> None:
    code = f"import socket; socket.create_connection(('{NET}.2', 8888), 1)"
    result = run_in(docker_sandbox, code)
    assert result.verdict is Verdict.NONZERO_EXIT
    assert "unreachable" in result.stderr


def test_a_list_that_is_no_list_of_hosts_changes_nothing(
    client: docker.DockerClient, tmp_path: Path, network: None
) -> None:
    before = client.containers.get(NAME).id
    for line in ("http://x", "*", ".*", "a|b", "*.*.x", "-a", "a.test:80", "a..b"):
        (tmp_path / "list").write_text(f"allowed.test\n{line}\n")
        done = subprocess.run([*SCRIPT, "up", tmp_path / "list"], env=ENV, capture_output=True, text=True)
        assert done.returncode == 1, line
        assert f"not a host name: {line}" in done.stderr
    assert client.containers.get(NAME).id == before
