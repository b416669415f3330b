"""Removes what dead workers left behind. Their containers end by themselves (EOF on stdin) but are not removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docker.errors import APIError, NotFound

from workers.sandbox.profile import HOST, INSTANCE, STACK


def reap(api: Any, stack: str, host: str, is_orphan: Callable[[str, str], bool]) -> list[str]:
    """Kill and remove the containers of this stack on this host that nobody owns any more.

    Args:
        api: the engine's docker.APIClient.
        is_orphan: whether a container, by the instance of a worker that made it and its own id, is nobody's.

    Returns:
        The ids of the containers that were removed.

    Raises:
        docker.errors.DockerException: the engine does not answer.
    """
    labels = [f"{STACK}={stack}", f"{HOST}={host}"]
    removed = []
    for container in api.containers(all=True, filters={"label": labels}):
        if not is_orphan(container["Labels"].get(INSTANCE, ""), container["Id"]):
            continue
        try:
            api.remove_container(container["Id"], force=True, v=True)
        except NotFound:
            continue
        except APIError as exc:
            # Another reaper is at it.
            if exc.status_code == 409:
                continue
            raise
        removed.append(container["Id"])
    return removed
