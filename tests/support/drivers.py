"""Drivers of a third party's machines, found by their entry points as those of any installed package are."""

from __future__ import annotations

from pathlib import Path


def offer_driver(folder: Path, scheme: str, module: str) -> None:
    """Have this folder, once modules are looked for there, offer the machines that a module of it makes (`create`)."""
    info = folder / f"{scheme}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {scheme}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pytest_dispatch.machines]\n{scheme} = {module}:create\n")
