"""The four queues, and the names of the Celery jobs that travel through them."""

from __future__ import annotations

from enum import StrEnum


class Queue(StrEnum):
    """One queue a role. Priority is decided at admission, in Postgres, so there are no more."""

    GATEWAY = "gateway"
    COORDINATOR = "coordinator"
    EXECUTION = "execution"
    MEMORY = "memory"


#: Celery job: admit pending tasks to their queues. No arguments.
ADMIT = "gateway.admit"
#: Celery job: deliver accepted messages to their inboxes. No arguments.
DELIVER = "gateway.deliver"
#: Celery job: claim and run tasks. One argument, a list of task ids.
RUN = "tasks.run"
#: Celery job: look at workflows and carry them on. One argument, a list of workflow ids.
ADVANCE = "workflows.advance"
#: Celery job: a chain or chord has come to these tasks. One argument, a list of task ids.
STEP = "workflows.step"
#: Celery job: bring the index of memories up to date. No arguments.
INDEX = "memory.index"
