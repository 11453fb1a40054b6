"""Templates of GitHub Actions in a lab file: dispatchoor's files as they are, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_dispatch.lab_program.lab_file.lab_config import roster_of
from pytest_dispatch.lab_program.lab_file.reading import LabFileError, read_lab_file

LAB = """
groups:
  - id: boards
    labels: [self-hosted, rpi]
    template_files: [templates.yaml]
    templates:
      - id: own
        kind: actions
        payload: {owner: me, repo: lab, workflow: boot.yml, correlation: ticket}
"""
DISPATCHOOR = """
- id: sync-geth
  name: Sync geth
  owner: ethpandaops
  repo: sync
  workflow_id: sync.yaml
  ref: master
  inputs: {network: hoodi, timeout: "60"}
  labels: {el: geth, nightly: ""}
- {id: by-number, owner: me, repo: lab, workflow_id: 4711}
"""


def read(folder: Path, templates: str = DISPATCHOOR) -> Path:
    (folder / "templates.yaml").write_text(templates)
    path = folder / "lab.yaml"
    path.write_text(LAB)
    return path


def test_dispatchoor_s_template_files_are_read_as_they_are(tmp_path: Path) -> None:
    roster = roster_of(read_lab_file(read(tmp_path), {}))
    own, geth, numbered = (each.workload for each in roster.templates)
    assert own.payload["correlation"] == "ticket"
    assert (geth.name, geth.kind, geth.labels) == ("Sync geth", "actions", ("el=geth", "nightly"))
    assert geth.payload == {
        "owner": "ethpandaops",
        "repo": "sync",
        "workflow": "sync.yaml",
        "ref": "master",
        "inputs": {"network": "hoodi", "timeout": "60"},
    }
    assert (numbered.name, numbered.payload["workflow"]) == ("by-number", 4711)


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        (
            "- {id: a, owner: me, workflow_id: a.yml}",
            "0.payload: the kind actions refuses it: a: payload: repo: expected the name of a repository",
        ),
        (
            "- {id: a, owner: me, repo: lab, workflow_id: a.yml, colour: red}",
            "0.colour: expected one of",
        ),
    ],
)
def test_what_is_wrong_with_one_is_told_with_its_place(tmp_path: Path, template: str, complaint: str) -> None:
    path = read(tmp_path, template)
    with pytest.raises(LabFileError) as refused:
        read_lab_file(path, {})
    assert complaint in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path}/templates.yaml")


def test_what_an_own_template_lacks_is_told_with_its_place(tmp_path: Path) -> None:
    path = read(tmp_path)
    path.write_text(LAB.replace("workflow: boot.yml, ", ""))
    with pytest.raises(LabFileError, match=r"lab.yaml:9:.* workflow: expected a workflow's file, such as test.yml"):
        read_lab_file(path, {})
