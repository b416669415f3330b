"""Shared parts of the models: strict input, ids and pages."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

Item = TypeVar("Item")

#: Longest wait of a long-poll, in seconds: below what proxies allow.
MAX_WAIT_S = 60
Id = Annotated[str, Field(min_length=1, max_length=255)]
Name = Annotated[str, Field(min_length=1, max_length=255)]
Words = Annotated[str, Field(max_length=10_000)]
_LabelKey = Annotated[str, Field(pattern=r"^[^:]{1,100}$")]
_LabelValue = Annotated[str, Field(max_length=255)]
Labels = Annotated[
    dict[_LabelKey, _LabelValue],
    Field(max_length=50, description="Your own marks; keys hold no colon. Listed by `label=key:value`."),
]


class In(BaseModel):
    """A body: what is not known is refused, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Query(BaseModel):
    """A query string: what is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(Query):
    """Where a list starts and how much of it is wanted."""

    cursor: Annotated[str, Field(max_length=500)] | None = Field(None, description="`next_cursor` of the page before.")
    limit: int = Field(100, ge=1, le=1000, description="Most items in a page.")


class LabelledQuery(PageQuery):
    """A list of what has labels."""

    label: Annotated[str, Field(max_length=400)] | None = Field(None, description="`key:value`.")

    @field_validator("label")
    @classmethod
    def _has_colon(cls, label: str | None) -> str | None:
        if label is not None and ":" not in label:
            raise ValueError("must be key:value")
        return label

    @property
    def label_pair(self) -> tuple[str, str] | None:
        """Key and value of `label`."""
        if self.label is None:
            return None
        key, _, value = self.label.partition(":")
        return key, value


class WaitQuery(Query):
    """How long to wait."""

    wait: float = Field(
        0,
        ge=0,
        le=MAX_WAIT_S,
        allow_inf_nan=False,
        description="Seconds to wait for its end. If too many wait already: at once, with Retry-After.",
    )


class Out(BaseModel):
    """An answer, read from a row's columns."""

    model_config = ConfigDict(from_attributes=True)


class Page(Out, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    next_cursor: str | None = Field(
        None, description="Pass it as `cursor` (or `after`) for what follows; null: the end."
    )
