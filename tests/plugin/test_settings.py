"""Every option is an ini key too, but for a token; an option wins, paths have a place that they are relative to."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from plugin_bench import WITHOUT, Bench

from pytest_dispatch.lab_program.config import LabConfig
from pytest_dispatch.plugin.options import OPTIONS, SOURCES
from pytest_dispatch.plugin.rack_settings import ONLY_RACKS
from pytest_dispatch.plugin.settings import Settings, read_settings

#: A value for each option that is not its default.
GIVEN = {
    "--dispatch-repo": "me/lab",
    "--dispatch-tag": "v1",
    "--dispatch-dir": "w",
    "--dispatch-actions": "templates.yaml",
    "--dispatch-rack": "rack-7",
    "--dispatch-maas-url": "https://maas.example/MAAS",
    "--dispatch-testflinger-url": "https://testflinger.example",
    "--dispatch-rack-location": "TOR3*",
    "--dispatch-rack-job": "job.yaml",
    "--dispatch-busy": "wait",
    "--dispatch-streak-limit": "5",
    "--dispatch-first-look": "1m",
    "--dispatch-token": "from-somewhere",
    "--dispatch-api-url": "https://git.example/api/v3",
    "--dispatch-bind": "[::1]:81",
    "--dispatch-path": "/boot",
    "--dispatch-machine": "sim:3?pace=0.5",
    "--dispatch-allow": "10.0.0.0/8",
    "--dispatch-boot-tool": "Wget",
    "--dispatch-issues": "failed",
    "--dispatch-issues-repo": "me/issues",
    "--dispatch-issues-mode": "update",
    "--dispatch-issues-close-after": "9",
    "--dispatch-issues-text": "raw",
    "--dispatch-assign-timeout": "1m",
    "--dispatch-boot-timeout": "2m",
    "--dispatch-report-timeout": "3m",
    "--dispatch-expect": "return",
    "--dispatch-group": "rack",
    "--dispatch-priority": "high",
    "--dispatch-explain": "",
    "--dispatch-retries": "7",
    "--dispatch-retry-failures": "8",
    "--dispatch-idle": "poweroff",
    "--dispatch-drain": "0",
    "--dispatch-resume": "",
    "--dispatch-db": "some/j.db",
    "--dispatch-cache": "some/assets",
    "--dispatch-junit": "some/j.xml",
    "--dispatch-lab": "thread",
    "--dispatch-lab-token": "for-a-lab-of-others",
    "--dispatch-owner": "nightly",
    "--dispatch-lease": "1h",
    "--dispatch-notify": "${HOME}",  # a URL itself is refused in ini files: see test_notify
    "--dispatch-no-mdns": "",
}


def read(bench: Bench, *args: str) -> Settings:
    return read_settings(bench.pytester.parseconfig(*args, *WITHOUT))


def changes(before: Settings, after: Settings) -> dict[str, str]:
    """What differs."""
    both = [(before, after, Settings), (before.plan, after.plan, LabConfig)]
    pairs = ((f.name, repr(getattr(a, f.name)), repr(getattr(b, f.name))) for a, b, of in both for f in fields(of))
    return {name: new for name, old, new in pairs if old != new}


def test_there_is_a_value_here_for_each_option() -> None:
    assert list(GIVEN) == [option.name for option in OPTIONS]


#: Refused in ini files: see test_secrets, and test_shared_lab.
TOKENS = ("--dispatch-token", "--dispatch-lab-token")
ALIKE = [option for option in OPTIONS if option.name not in TOKENS]


TEMPLATES = "[{id: a, kind: actions, payload: {owner: me, repo: lab, workflow: test.yml}}]"
FARM = {"MAAS_URL": "https://maas/MAAS", "MAAS_API_KEY": "a:b:c", "TESTFLINGER_SERVER": "https://testflinger"}
#: What an option needs beside it.
LAB = "\ndispatch_lab = http://127.0.0.1:1"
BESIDE = {
    "--dispatch-issues-close-after": "\ndispatch_issues_mode = update",
    "--dispatch-owner": LAB,
    "--dispatch-lease": LAB,
}


@pytest.mark.parametrize("option", ALIKE, ids=lambda option: option.name)
def test_an_ini_key_does_what_its_option_does(bench: Bench, option: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "for-what-is-sent")
    monkeypatch.setenv("DISPATCH_TOKEN", "for-the-lab-of-others")
    name, dest, given = option.name, option.dest, GIVEN[option.name]  # type: ignore[attr-defined]
    base = "dispatch_rack = r" if dest in ONLY_RACKS else "dispatch_repo = me/lab" + BESIDE.get(name, "")
    for variable, value in FARM.items():
        monkeypatch.setenv(variable, value)
    bench.path.joinpath("job.yaml").write_text("provision_data: {distro: jammy}\n")
    bench.path.joinpath("templates.yaml").write_text(TEMPLATES)
    bench.pytester.makeini(f"[pytest]\n{'' if dest in SOURCES else base}\n")
    without = read(bench, "--dispatch-repo=a/b") if dest in SOURCES else read(bench)
    by_option = read(bench, f"{name}={given}" if given else name)
    bench.pytester.makeini(f"[pytest]\n{'' if dest in SOURCES else base}\n{dest} = {given or 'true'}\n")
    by_key = read(bench)
    changed = changes(without, by_option)
    assert changed
    assert changes(without, by_key) == changed


def test_an_option_wins_over_its_ini_key(bench: Bench) -> None:
    bench.pytester.makeini("[pytest]\ndispatch_dir = w\ndispatch_retries = 5\ndispatch_machine = sim:2\n")
    settings = read(bench, "--dispatch-retries=0", "--dispatch-machine=sim:3", "--dispatch-machine=qemu")
    assert settings.policy.retries == 0
    assert [spec.text for spec in settings.plan.machines] == ["sim:3", "qemu"]
    assert read(bench).policy.retries == 5


def test_the_last_of_two_counts(bench: Bench) -> None:
    assert read(bench, "--dispatch-dir=w", "--dispatch-path=/a", "--dispatch-path=/b").plan.path == "/b"


def test_a_source_on_the_command_line_wins_over_another_in_the_ini_file(bench: Bench) -> None:
    bench.pytester.makeini("[pytest]\ndispatch_repo = me/lab\n")
    settings = read(bench, "--dispatch-dir=w")
    assert (settings.repo, settings.folder) == ("", bench.path / "w")


def test_paths_are_relative_to_where_they_were_given(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = bench.path / "inside"
    inside.mkdir()
    bench.pytester.makeini("[pytest]\ndispatch_dir = w\ndispatch_db = j.db\n")
    monkeypatch.chdir(inside)
    settings = read(bench, "--dispatch-junit=j.xml")
    assert (settings.folder, settings.plan.db) == (bench.path / "w", str(bench.path / "j.db"))
    assert settings.junit == inside / "j.xml"
    assert read(bench, "--dispatch-cache=~/assets").plan.cache == Path("~/assets").expanduser()


def test_the_journal_is_in_the_cache_directory(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    settings = read_settings(bench.pytester.parseconfigure("--dispatch-dir=w", *WITHOUT))
    assert Path(settings.plan.db).parent == bench.path / ".pytest_cache" / "d" / "dispatch"
    assert (bench.path / ".pytest_cache" / ".gitignore").exists()
    without = Path(read(bench, "--dispatch-dir=w", "-p", "no:cacheprovider").plan.db)
    assert without.parent.name == "journals"
    assert bench.path not in without.parents


def test_a_database_of_its_own(bench: Bench) -> None:
    url = "postgresql+psycopg://lab/journal"
    assert read(bench, "--dispatch-dir=w", f"--dispatch-db={url}").plan.db == url


def test_labels_count_in_any_case(bench: Bench) -> None:
    settings = read(bench, "--dispatch-dir=w", "-o", "dispatch_fail_labels=Broken BAD")
    assert settings.policy.fail_labels == ("broken", "bad")
    assert settings.policy.skip_labels == ("skip", "skipped")


def test_the_environment_names_an_enterprise_server(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "https://git.example/api/v3/")
    assert read(bench, "--dispatch-repo=me/lab").plan.api_url == "https://git.example/api/v3"


def test_the_environment_s_server_is_not_looked_at_where_nobody_asks_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "http://git.example/api/v3/")
    assert read(bench, "--dispatch-dir=w").plan.api_url == "https://api.github.com"
    line = bench.refused("--dispatch-repo=me/lab")
    assert line.startswith("--dispatch-api-url: expected https://, because http:// would send the token unencrypted")


def test_issues_of_a_folder(bench: Bench) -> None:
    settings = read(bench, "--dispatch-dir=w", "--dispatch-issues=failed", "--dispatch-issues-repo=me/lab")
    assert (settings.issues, settings.plan.issues_repo) == (("failed",), "me/lab")
    assert read(bench, "--dispatch-dir=w").plan.issues_repo == ""


def test_a_token_is_not_shown(bench: Bench) -> None:
    shown = repr(read(bench, "--dispatch-repo=me/lab", "--dispatch-token=secret"))
    assert "secret" not in shown
    assert "--dispatch-token" in shown
