"""Removes what dead workers left behind. Their containers end by themselves (EOF on stdin) but are not removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docker.errors import APIError, NotFound

#: Labels of every container of ours, fixed at its creation: the reaper goes by them.
STACK, HOST, WORKER, ATTEMPT = "clawq.stack", "clawq.host", "clawq.worker", "clawq.attempt"


def reap(api: Any, stack: str, host: str, is_open: Callable[[str], bool]) -> list[str]:
    """Kill and remove the containers of this stack on this host whose attempt has ended.

    Args:
        api: the engine's docker.APIClient.
        is_open: whether an attempt, by the name its sandbox was given, may still be running.

    Returns:
        The names of the attempts whose containers were removed.

    Raises:
        docker.errors.DockerException: the engine does not answer.
    """
    labels = [f"{STACK}={stack}", f"{HOST}={host}"]
    removed = []
    for container in api.containers(all=True, filters={"label": labels}):
        attempt = container["Labels"][ATTEMPT]
        if is_open(attempt):
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
        removed.append(attempt)
    return removed
