"""Removes what dead workers left behind. Their containers end by themselves (EOF on stdin) but are not removed."""

from __future__ import annotations

from collections.abc import Callable

import docker
from docker.errors import APIError, NotFound

from workers.sandbox.docker import ATTEMPT, HOST, STACK, WORKER


def reap(client: docker.DockerClient, stack: str, host: str, is_alive: Callable[[str], bool]) -> list[str]:
    """Kill and remove the containers of this stack on this host whose worker is gone.

    Args:
        is_alive: whether a worker, by the name it gave its sandbox, still runs.

    Returns:
        The names of the runs whose containers were removed.

    Raises:
        docker.errors.DockerException: the engine does not answer.
    """
    labels = [f"{STACK}={stack}", f"{HOST}={host}"]
    removed = []
    for container in client.api.containers(all=True, filters={"label": labels}):
        worker = container["Labels"].get(WORKER)
        if worker is None or is_alive(worker):
            continue
        try:
            client.api.remove_container(container["Id"], force=True, v=True)
        except NotFound:
            continue
        except APIError as exc:
            # Another reaper is at it.
            if exc.status_code == 409:
                continue
            raise
        removed.append(container["Labels"][ATTEMPT])
    return removed
