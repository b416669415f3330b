"""What a wheel takes along."""

from __future__ import annotations

from configparser import ConfigParser

from tests.architecture.sources import ROOT


def test_every_pattern_of_package_data_names_files() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    for package, patterns in config["options.package_data"].items():
        for pattern in patterns.split(","):
            assert list((ROOT / package.replace(".", "/")).glob(pattern.strip())), f"{package}: {pattern}"
