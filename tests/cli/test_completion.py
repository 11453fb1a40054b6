"""Shells complete commands, options, and names that the lab knows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forks import dispatch as forked
from operators import staffed_lab
from shared_labs import SharedLab

from pytest_dispatch.cli.names import short_id

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

BIN = Path(sys.executable).parent

#: Has bash complete a line as it would for somebody who presses Tab, and shows what it proposes.
PRESS_TAB = """
eval "$(dispatch completion bash)"
COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9
read -ra COMP_WORDS <<< "$1"
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_python_argcomplete dispatch "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLab]:
    with staffed_lab(tmp_path_factory.mktemp("lab") / "here") as lab:
        yield lab


def proposed(line: str, **environ: str) -> list[str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-c", PRESS_TAB, "bash", line],
        env={**os.environ, "PATH": path, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return [word.strip() for word in ran.stdout.split("\n") if word.strip()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dispatch ma", ["machines"]),
        ("dispatch queue re", ["release", "resume", "requeue"]),
        ("dispatch machines show rpi", ["rpi-01", "rpi-02"]),
        ("dispatch groups pause l", ["lab", "left"]),
        ("dispatch templates queue m", ["memory"]),
        ("dispatch comp", ["completion"]),
        ("dispatch completion b", ["bash"]),
        ("dispatch config ch", ["check"]),
        ("dispatch serve --unknown-machines w", ["welcome"]),
        ("dispatch serve --no", ["--no-mdns"]),
        ("dispatch backup --d", ["--db"]),
        ("dispatch queue list --gr", ["--group"]),
        ("dispatch queue list --group ri", ["right"]),
    ],
)
@pytest.mark.draw(2)
def test_bash_completes_what_there_is(lab: SharedLab, line: str, expected: list[str]) -> None:
    assert proposed(line, DISPATCH_LAB=lab.url, DISPATCH_TOKEN=lab.token) == expected


def test_runs_that_have_ended_and_tokens_of_all_are_completed(lab: SharedLab) -> None:
    lab_of = {"DISPATCH_LAB": lab.url, "DISPATCH_TOKEN": lab.token}

    def typed(line: str) -> Any:
        return json.loads(forked(lab.folder, *line.split(), "--json", environ={**os.environ, **lab_of}).stdout)

    typed("users add ada --no-password")
    token = typed("tokens create ci --user ada")["token"]["id"]
    assert proposed(f"dispatch tokens revoke {token[:4]}", **lab_of) == [token]
    run = typed("templates queue smoke")["id"]
    forked(lab.folder, "runs", "show", run, "--watch", environ={**os.environ, **lab_of})  # to its end
    assert proposed("dispatch runs show smo", **lab_of) == ["smoke.efi"]
    assert proposed(f"dispatch runs note {run[:4]}", **lab_of) == [short_id(run)]


def test_nothing_is_proposed_and_nothing_said_without_a_lab() -> None:
    assert proposed("dispatch machines show rpi", DISPATCH_LAB="http://127.0.0.1:9", DISPATCH_TOKEN="x") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_understands_what_it_is_to_run(shell: str) -> None:
    ran = subprocess.run([BIN / "dispatch", "completion", shell], capture_output=True, text=True, check=True)
    assert "dispatch" in ran.stdout
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=ran.stdout, text=True, check=True, capture_output=True)
