"""What a lab may read for who asks it to run something, and how that is named: never by a path."""

from __future__ import annotations

import msgspec
import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.sources.locations import Locations, api_of, places_of

API = "https://api.github.com"
ASSET = f"{API}/repos/me/lab/releases/assets/7"
DIGEST = f"sha256:{'0' * 64}"
PLACES = Locations(folders={"w": "/lab/w", "inner": "/lab/w/in"})


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("folder:w/a.efi", ("/lab/w/a.efi", "/lab/w")),
        ("folder:w/images/a.efi", ("/lab/w/images/a.efi", "/lab/w")),
        ("folder:w/%2e%2e%2fb.efi", ("/lab/w/%2e%2e%2fb.efi", "/lab/w")),  # a strange name, and no way out
        ("folder:w/...", ("/lab/w/...", "/lab/w")),
        ("folder:inner/a.efi", ("/lab/w/in/a.efi", "/lab/w/in")),
        (ASSET, (ASSET, "")),
        (DIGEST, (DIGEST, "")),
    ],
)
def test_what_a_lab_may_read(location: str, found: tuple[str, str]) -> None:
    PLACES.check(location)
    assert PLACES.find(location) == found


WAYS_OUT = [
    "folder:w/../secret",
    "folder:w/images/../../secret",
    "folder:w/..",
    "folder:w/.",
    "folder:w/./a.efi",
    "folder:w/",
    "folder:w",
    "folder:w//etc/passwd",
    "folder:w/images//a.efi",
    "folder:w/a.efi/",
    "folder:w/a.efi\0.txt",
    "folder:w/\0",
    "folder:/a.efi",
    "folder:",
    "folder:x/a.efi",
    "folder:../w/a.efi",
    "folder:W/a.efi",
    f"folder:w/{'a' * 4097}",
]
NO_PLACES = [
    "",
    "a.efi",
    "../a.efi",
    "/lab/w/a.efi",
    "//lab/w/a.efi",
    "/etc/passwd",
    "\\\\server\\share\\a.efi",
    "file:///etc/passwd",
    "FOLDER:w/a.efi",
    " folder:w/a.efi",
    "https://example.com/a.efi",
    "http://127.0.0.1:8080/api/v1/openapi.json",
    "http://169.254.169.254/latest/meta-data",
    f"{API}/user",
    f"{ASSET}/../../../../../user",
    f"{ASSET}?x=1",
    f"{ASSET}#x",
    f"{ASSET}\n",
    f"{API}/repos/../user/releases/assets/7",
    f"{API}/repos/me/../releases/assets/7",
    "https://me:secret@api.github.com/repos/me/lab/releases/assets/7",
    "https://api.github.com.evil.example/repos/me/lab/releases/assets/7",
    "http://api.github.com/repos/me/lab/releases/assets/7",
    "https://ghe.example/api/v3/repos/me/lab/releases/assets/7",
    f"{API}/repos/me/lab/releases/assets/\N{SUPERSCRIPT TWO}",
    DIGEST.upper(),
    DIGEST[:-1],
    f"{DIGEST}0",
    f"{DIGEST}\n",
]


@pytest.mark.parametrize("location", [*WAYS_OUT, *NO_PLACES])
def test_what_it_may_not(location: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PLACES.check(location)
    text = str(caught.value)
    assert text.startswith("expected ")
    assert "\n" not in text
    assert len(text) < 600
    assert "/lab" not in text.replace(repr(location[:80]), "")  # nor is where its folders are for anybody to know


@pytest.mark.parametrize("location", WAYS_OUT)
def test_what_it_does_not_find_either(location: str) -> None:
    with pytest.raises(ConfigError):
        PLACES.find(location)


def test_a_path_of_an_earlier_lab_is_found_in_a_folder_of_this_one() -> None:
    assert PLACES.find("/lab/w/a.efi") == ("/lab/w/a.efi", "/lab/w")
    assert PLACES.find("/lab/w/in/a.efi") == ("/lab/w/in/a.efi", "/lab/w/in")


@pytest.mark.parametrize(
    "path", ["/lab/a.efi", "/lab/wide/a.efi", "/lab/w/../a.efi", "/lab/w", "/", "/lab/w/", "/lab/w/a\0"]
)
def test_elsewhere_it_is_not(path: str) -> None:
    with pytest.raises(ConfigError, match="expected a file"):
        PLACES.find(path)
    assert PLACES.named(path) == ""


def test_a_lab_is_told_of_files_by_its_folders() -> None:
    assert PLACES.named("/lab/w/images/a.efi") == "folder:w/images/a.efi"
    assert PLACES.named("/lab/w/in/a.efi") == "folder:inner/a.efi"
    assert Locations(folders={"root": "/"}).named("/a.efi") == "folder:root/a.efi"
    assert Locations(folders={"root": "/"}).find("folder:root/a.efi") == ("/a.efi", "/")


def test_what_workloads_need() -> None:
    """Their source, the folders of those that a hook added from elsewhere, and the GitHubs that have the others."""
    elsewhere = "https://ghe.example/api/v3"
    asset = f"{elsewhere}/repos/me/x/releases/assets/1"
    files = ["/lab/w/a.efi", "/lab/w/images/b.efi", "/ci/w/c.efi", "/c.efi", asset]
    locations = places_of(files, "/lab/w", "https://api.example")
    assert locations.folders == {"w": "/lab/w", "root": "/", "w-2": "/ci/w"}
    assert locations.apis == ("https://api.example", API, elsewhere)
    for file in files:
        name = locations.named(file) or file
        locations.check(name)
        assert locations.find(name)[0] == file
    assert places_of(reversed(files), "/lab/w", "https://api.example") == locations


def test_a_lab_without_folders_says_so() -> None:
    with pytest.raises(ConfigError, match="it has none"):
        Locations().check("/etc/passwd")


@pytest.mark.parametrize("text", [ASSET, "http://127.0.0.1:5/api/v3/repos/a/.github/releases/assets/1"])
def test_the_url_of_an_asset(text: str) -> None:
    assert api_of(text) == text.partition("/repos/")[0]


def test_it_goes_to_other_processes_as_json() -> None:
    PLACES.named("/lab/w/a.efi")
    assert msgspec.json.decode(msgspec.json.encode(PLACES), type=Locations) == PLACES
