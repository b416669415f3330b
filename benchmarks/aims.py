"""What is aimed at: figures beside what each should be at most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Aim:
    """What a figure should be at most."""

    what: str
    value: float
    most: float
    unit: str = ""

    def row(self) -> str:
        """A row of the table."""
        met = "yes" if self.value <= self.most else "no"
        return f"| {self.what} | {self.value:.3g}{self.unit} | {self.most:g}{self.unit} | {met} |"


def show(aims: Iterable[Aim]) -> None:
    """Print them as Markdown."""
    print("\n| | measured | aim: at most | met |\n| --- | ---: | ---: | --- |")
    print("\n".join(aim.row() for aim in aims))
