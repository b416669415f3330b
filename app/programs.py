"""Programs: the task types that run one, and the bounds of a run. Words that settings and payloads share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

#: Task types whose image is the operator's or the agent's choice, and the one whose task names it.
Language = Literal["python", "shell", "javascript"]
ProgramType = Literal[Language, "container"]

#: As the engine spells them. No colon in a network's name: `container:…` would be another container's.
ImageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}$")]
RuntimeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
NetworkName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


#: Bytes of arguments and environment; the kernel takes no single one longer than 128 KiB.
MAX_WORDS_BYTES = 120 << 10


class CodeLimits(BaseModel):
    """Bounds of a run, each within what one host can give."""

    model_config = ConfigDict(extra="forbid")

    wall_s: float = Field(60, gt=0, le=3600, description="Wall-clock seconds.")
    cpu_s: float = Field(60, gt=0, le=3600, description="CPU seconds.")
    memory_mb: int = Field(256, ge=16, le=4096, description="Memory and swap together, MiB.")
    pids: int = Field(64, ge=1, le=512, description="Processes and threads at once.")
    disk_mb: int = Field(64, ge=1, le=1024, description="Bytes written, MiB.")
    file_mb: int = Field(1024, ge=1, le=1024, description="Bytes of one file, MiB; disk_mb bounds them all.")
    open_files: int = Field(1024, ge=16, le=4096, description="Open descriptors of one process.")
    output_kb: int = Field(256, ge=1, le=4096, description="Kept of stdout and of stderr, KiB each.")
