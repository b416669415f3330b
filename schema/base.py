"""What every model shares: the declarative base, ids and the types of columns."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import uuid_utils
from sqlalchemy import DateTime, MetaData, String, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

#: 255 as in the deployment design; ours are UUIDv7 text, which sorts by time and keeps inserts at the index's end.
Id = Annotated[str, mapped_column(String(255))]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]
Name = Annotated[str, mapped_column(String(255))]
Word = Annotated[str, mapped_column(String(50))]
Time = Annotated[datetime, mapped_column(DateTime(timezone=True))]
Now = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]


class Base(DeclarativeBase):
    """The declarative base of all tables."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
        }
    )


def new_id() -> str:
    """A new UUIDv7 as text: unique, and in the order of creation to the millisecond."""
    return str(uuid_utils.uuid7())


def one_of(column: str, words: type[StrEnum] | tuple[str, ...]) -> str:
    """The SQL condition that `column` holds one of `words`."""
    return f"{column} IN ({', '.join(repr(str(w)) for w in words)})"
