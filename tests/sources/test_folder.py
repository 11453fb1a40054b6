"""A folder as a source of workloads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from told_errors import one_line

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.sources.folder import list_folder
from pytest_dispatch.workloads.boot.lifecycle import Expect

KEYS = (
    "name",
    "file",
    "type",
    "labels",
    "expect",
    "assign-timeout",
    "boot-timeout",
    "report-timeout",
    "requires",
    "chain",
    "after",
    "group",
)


def fill(folder: Path, *names: str, manifest: str | None = None) -> Path:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"MZ" + name.encode())
    if manifest is not None:
        (folder / "dispatch.toml").write_text(manifest, encoding="utf-8")
    return folder


def complaint(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        list_folder(folder, "lab")
    return one_line(caught.value)


def test_the_three_kinds_are_listed_by_name(tmp_path: Path) -> None:
    fill(tmp_path, "b.iso", "a.efi", "c.img", "readme.txt", ".hidden.efi", "efi")
    (tmp_path / "folder.efi").mkdir()
    listing = list_folder(tmp_path, "./lab")
    assert listing.name == "./lab"
    assert [(each.name, each.payload["media"]) for each in listing.workloads] == [
        ("a.efi", "efi"),
        ("b.iso", "iso"),
        ("c.img", "img"),
    ]
    first = listing.workloads[0]
    assert (first.payload["location"], first.payload["size"], first.digest) == (str(tmp_path / "a.efi"), 7, "")


def test_firmware_s_own_spelling_is_fine(tmp_path: Path) -> None:
    fill(tmp_path, "BOOTX64.EFI")
    assert list_folder(tmp_path, "lab").workloads[0].payload["media"] == "efi"


def test_locations_are_absolute_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.efi")
    monkeypatch.chdir(tmp_path)
    assert list_folder(Path(), ".").workloads[0].payload["location"] == str(tmp_path / "a.efi")


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    """The folder itself may be one."""
    (tmp_path / "lab").mkdir()
    fill(tmp_path / "lab", "images/built")
    (tmp_path / "lab" / "a.efi").symlink_to("images/built")
    (tmp_path / "link").symlink_to("lab")
    (workload,) = list_folder(tmp_path / "link", "lab").workloads
    assert (workload.name, workload.payload["size"]) == ("a.efi", 14)
    assert workload.payload["location"] == str(tmp_path / "lab" / "images" / "built")


@pytest.mark.parametrize("name", ["a.efi", "sub/a.efi"])
@pytest.mark.parametrize("manifest", [None, "[[workload]]\nname = '{}'"])
def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str, manifest: str | None) -> None:
    """Be it the file's own, or that of a folder above it, which a folder without a dispatch.toml does not look into."""
    secret = fill(tmp_path, "secret") / "secret"
    (tmp_path / "lab").mkdir()
    link = tmp_path / "lab" / name
    if link.parent == tmp_path / "lab":
        link.symlink_to("../secret")
    else:
        (tmp_path / "outside").mkdir()
        secret = secret.rename(tmp_path / "outside" / "a.efi")
        link.parent.symlink_to("../outside")
    fill(tmp_path / "lab", "b.efi", manifest=manifest and manifest.format(name))
    if name == "sub/a.efi" and manifest is None:
        assert [each.name for each in list_folder(tmp_path / "lab", "lab").workloads] == ["b.efi"]
        return
    assert complaint(tmp_path / "lab").endswith(
        f"expected a file in this folder, got a link that leads out of it, to {str(secret)!r}; put the file itself here"
    )


def test_a_manifest_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    fill(tmp_path, "a.efi", manifest="[[workload]]\nname = 'a.efi'")
    (tmp_path / "lab" / "dispatch.toml").symlink_to("../dispatch.toml")
    assert complaint(tmp_path / "lab").startswith(
        "lab/dispatch.toml: expected a file in this folder, got a link that leads out of it, to "
        f"'{tmp_path}/dispatch.toml'"
    )


def test_links_that_lead_nowhere_are_no_workloads(tmp_path: Path) -> None:
    """Nor those that lead in a circle, whatever their names."""
    fill(tmp_path, "a.efi")
    (tmp_path / "lost.efi").symlink_to("nothing")
    for name in ("circle", "circle.efi", "dispatch.toml"):
        (tmp_path / name).symlink_to(name)
    listing = list_folder(tmp_path, "lab")
    assert [each.name for each in listing.workloads] == ["a.efi"]
    assert [name for name, _ in listing.left_out] == ["circle.efi", "lost.efi"]
    (tmp_path / "dispatch.toml").unlink()
    fill(tmp_path, manifest='[[workload]]\nfile = "circle.efi"')
    assert complaint(tmp_path).endswith("expected a file in this folder, found none named 'circle.efi'")


def test_what_is_named_as_workloads_are_and_is_none_is_told(tmp_path: Path) -> None:
    fill(tmp_path, "a.efi", ".hidden.efi", "notes.txt")
    (tmp_path / "folder.IMG").mkdir()
    os.mkfifo(tmp_path / "pipe.iso")
    why = "expected a file, got a folder, something special, or a link that leads nowhere"
    assert list_folder(tmp_path, "lab").left_out == (("folder.IMG", why), ("pipe.iso", why))


def test_what_a_manifest_does_not_list_is_told(tmp_path: Path) -> None:
    fill(tmp_path, "a.efi", "b.efi", "c.efi", manifest='[[workload]]\nname = "x"\nfile = "c.efi"')
    why = "dispatch.toml does not list it: add a [[workload]] table with its name"
    assert list_folder(tmp_path, "lab").left_out == (("a.efi", why), ("b.efi", why))


def test_listing_reads_no_workload(tmp_path: Path) -> None:
    """A terabyte that is not there is listed as fast as a kilobyte that is."""
    fill(tmp_path, "huge.img")
    os.truncate(tmp_path / "huge.img", 1 << 40)
    assert list_folder(tmp_path, "lab").workloads[0].payload["size"] == 1 << 40


def test_a_manifest_says_everything(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "a.efi",
        "images/vmlinuz",
        "unlisted.iso",
        manifest="""
        [[workload]]
        name = "linux"
        file = "images/vmlinuz"
        type = "efi"
        labels = ["smoke", "x86"]
        expect = "boot"
        assign-timeout = "1h"
        boot-timeout = "90s"
        report-timeout = "1h30m"

        [[workload]]
        file = "a.efi"
        """,
    )
    plain, linux = list_folder(tmp_path, "lab").workloads
    assert (plain.name, plain.payload["media"], plain.expect, plain.limits) == ("a.efi", "efi", None, {})
    assert (linux.name, linux.payload["media"], linux.payload["location"]) == (
        "linux",
        "efi",
        str(tmp_path / "images/vmlinuz"),
    )
    assert (linux.labels, linux.expect) == (("smoke", "x86"), Expect.BOOT)
    assert linux.limits == {"assign": 3600.0, "boot": 90.0, "report": 5400.0}
    assert linux.digest == ""


def test_one_file_may_be_several_workloads(tmp_path: Path) -> None:
    tables = "\n".join(f'[[workload]]\nname = "{name}"\nfile = "a.efi"' for name in ("two", "one"))
    fill(tmp_path, "a.efi", manifest=tables)
    assert [each.name for each in list_folder(tmp_path, "lab").workloads] == ["one", "two"]


def test_a_name_alone_is_the_file_s_too(tmp_path: Path) -> None:
    fill(tmp_path, "a.efi", manifest='[[workload]]\nname = "a.efi"')
    assert list_folder(tmp_path, "lab").workloads[0].payload["location"] == str(tmp_path / "a.efi")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            'file = "a.efi"\nreport-timeout = "5 minutes"',
            "report-timeout: expected a duration such as 30s, 5m or 1h, got '5 minutes'",
        ),
        ('file = "a.efi"\nboot-timeout = 5', "boot-timeout: expected a duration such as 30s, 5m or 1h, got 5"),
        ('file = "a.efi"\nassign-timeout = "0"', "assign-timeout: expected a duration longer than 0, got '0'"),
        ('file = "a.efi"\ntype = "exe"', "type: expected efi, iso or img, got 'exe'"),
        ('file = "a.bin"', "type: expected efi, iso or img, since 'a.bin' does not tell, got nothing"),
        ('file = "a.efi"\nexpect = true', "expect: expected report, boot or return, got True"),
        ('file = "a.efi"\nlabels = "smoke"', "labels: expected a list of labels such as [\"smoke\"], got 'smoke'"),
        (
            'file = "a.efi"\nrequires = "gpu"',
            'requires: expected a list of requirements such as ["arch=x86_64", "gpu"], got \'gpu\'',
        ),
        (
            'file = "a.efi"\nrequires = ["gpu>1"]',
            "requires: expected a requirement such as key=value, key in (a, b), key>=number, key, !key, got 'gpu>1'",
        ),
        ('file = "a.efi"\nlabels = [1]', "labels: expected printable text, got 1"),
        ('file = "a.efi"\nname = ""', "name: expected printable text, got ''"),
        ('file = "a.efi"\nname = "a\\u202Eb"', "name: expected printable text, got 'a\\u202eb'"),
        (f'file = "a.efi"\nname = "{"x" * 256}"', "name: expected at most 255 characters, got 256"),
        (f'file = "a.efi"\nlabels = ["{"x" * 256}"]', "labels: expected at most 255 characters, got 256"),
        ('file = "a.efi"\nname = "a\\u001bb"', "name: expected printable text, got 'a\\x1bb'"),
        ('file = "a.efi"\nname = "../b"', "name: expected a name that does not lead out of this folder, got '../b'"),
        ('file = "x/../../a.efi"', "file: expected a name that does not lead out of this folder, got 'x/../../a.efi'"),
        ('file = "/etc/passwd"', "file: expected a name that does not lead out of this folder, got '/etc/passwd'"),
        ('file = "gone.efi"', "file: expected a file in this folder, found none named 'gone.efi'"),
        ('file = "empty.efi"', "file: expected something that boots, 'empty.efi' is empty"),
        ("labels = []", "name: expected the name of a file in this folder, got nothing"),
        ('name = "c.efi"', "file: expected a file in this folder, found none named 'c.efi'"),
        (
            'file = "a.efi"\ntimeout = "5m"',
            f"unknown key 'timeout', expected {', '.join(KEYS[:-1])} or {KEYS[-1]}",
        ),
    ],
)
def test_what_a_table_cannot_say(tmp_path: Path, table: str, expected: str) -> None:
    fill(tmp_path, "a.efi", "b.efi", "a.bin", manifest=f'[[workload]]\nfile = "b.efi"\n[[workload]]\n{table}')
    (tmp_path / "empty.efi").touch()
    assert complaint(tmp_path) == f"lab/dispatch.toml: workload 2: {expected}"


def test_a_long_value_is_shown_short(tmp_path: Path) -> None:
    fill(tmp_path, "a.efi", manifest=f'[[workload]]\nfile = "a.efi"\ntype = "{"x" * 1000}"')
    assert len(complaint(tmp_path)) < 200


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ("", "expected at least one [[workload]] table, got []"),
        ("workload = 5", "expected at least one [[workload]] table, got 5"),
        ("workload = ['a.efi']", "workload 1: expected a table, got 'a.efi'"),
        ('[[workloads]]\nfile = "a.efi"', "unknown key 'workloads', expected workload"),
        ("[[workload]\n", "expected TOML: "),
        ("workload = " + "9" * 5000, "expected TOML: Exceeds the limit"),
        ("workload = " + "[" * 5000, "expected TOML with fewer tables within tables"),
        ("workload" + ".a" * 201 + " = 1", "line 1: expected at most 200 dots, got 201"),
        ("#" + "." * 300 + "\nworkload = 5", "expected at least one [[workload]] table, got 5"),
        (
            '[[workload]]\nfile = "a.efi"\n[[workload]]\nfile = "b.efi"\nname = "a.efi"',
            "workload 2: name: 'a.efi' is the name of workload 1 too",
        ),
    ],
)
def test_what_a_manifest_cannot_say(tmp_path: Path, manifest: str, expected: str) -> None:
    fill(tmp_path, "a.efi", "b.efi", manifest=manifest)
    assert complaint(tmp_path).startswith(f"lab/dispatch.toml: {expected}")


def test_a_manifest_that_is_no_text(tmp_path: Path) -> None:
    fill(tmp_path, "a.efi")
    (tmp_path / "dispatch.toml").write_bytes(b"# \xff\n")
    assert complaint(tmp_path) == "lab/dispatch.toml: expected UTF-8 text, byte 2 is not"


@pytest.mark.parametrize(
    ("put", "got"),
    [
        (os.mkdir, "a folder"),
        (os.mkfifo, "a named pipe"),
        (lambda path: path.symlink_to("/dev/null"), "a device"),
    ],
)
def test_a_manifest_that_is_no_file(tmp_path: Path, put: Callable[[Path], None], got: str) -> None:
    put(tmp_path / "dispatch.toml")
    assert complaint(tmp_path) == f"lab/dispatch.toml: expected a file, got {got}"


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    assert complaint(tmp_path / ("x" * 300)).startswith("lab: cannot be read: File name too long: ")


def test_an_empty_folder(tmp_path: Path) -> None:
    fill(tmp_path, "readme.txt")
    assert complaint(tmp_path) == "lab: no workload in this folder: expected *.efi, *.iso, *.img, or a dispatch.toml"


def test_no_folder(tmp_path: Path) -> None:
    told = "--dispatch-dir: expected a folder with workloads, got 'lab': "
    gone = tmp_path / "gone"
    assert complaint(gone) == f"{told}there is nothing at {gone}; name a folder that exists"
    fill(tmp_path, "file")
    file = tmp_path / "file"
    assert complaint(file) == f"{told}{file} is a file; name the folder that it is in"


def test_an_empty_workload(tmp_path: Path) -> None:
    (tmp_path / "a.efi").touch()
    assert complaint(tmp_path) == "lab: 'a.efi': expected something that boots, 'a.efi' is empty"


def test_a_file_name_that_cannot_be_shown(tmp_path: Path) -> None:
    fill(tmp_path, "a\x1b[2J.efi")
    assert complaint(tmp_path) == r"lab: 'a\x1b[2J.efi': expected printable text, got 'a\x1b[2J.efi'"


def test_those_of_a_chain_stand_together_in_its_order_where_the_first_belongs(tmp_path: Path) -> None:
    tables = [
        f'[[workload]]\nname = "{name}.efi"\n' + (f'chain = "{chain}"\nafter = {after}\n' if chain else "")
        for name, chain, after in (
            ("z", "", []),
            ("install", "disk", []),
            ("c", "other", []),
            ("check", "disk", ["install.efi"]),
            ("d", "", []),
            ("boot", "disk", []),
            ("b", "other", ["c.efi"]),
        )
    ]
    fill(
        tmp_path,
        *(f"{name}.efi" for name in ("z", "install", "c", "check", "d", "boot", "b")),
        manifest="".join(tables),
    )
    listed = list_folder(tmp_path, "lab").workloads
    assert [workload.name.removesuffix(".efi") for workload in listed] == [
        "c",
        "b",
        "d",
        "install",
        "check",
        "boot",
        "z",
    ]
    assert [(each.chain, each.after) for each in listed[3:5]] == [("disk", ()), ("disk", ("install.efi",))]
