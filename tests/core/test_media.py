"""Which assets are workloads, and as what firmware gets them."""

from __future__ import annotations

import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.media import BUILT_IN, Media, gathered, kind_by_suffix, kind_of, known, served_as


@pytest.mark.parametrize(
    ("content_type", "kind", "served"),
    [
        ("application/vnd.dispatch+efi", "efi", "application/efi"),
        ("application/vnd.dispatch+iso", "iso", "application/vnd.efi-iso"),
        ("application/vnd.dispatch+img", "img", "application/vnd.efi-img"),
    ],
)
def test_the_three_content_types_of_the_protocol(content_type: str, kind: str, served: str) -> None:
    assert kind_of(content_type) == kind
    assert served_as(kind) == served
    assert kind_by_suffix(f".{kind.upper()}") == kind


@pytest.mark.parametrize("written", ["Application/VND.dispatch+EFI", "application/vnd.dispatch+efi; charset=binary"])
def test_case_and_parameters_do_not_matter(written: str) -> None:
    assert kind_of(written) == "efi"


@pytest.mark.parametrize("other", ["", "application/efi", "application/octet-stream", "application/vnd.dispatch+efix"])
def test_any_other_type_is_no_workload(other: str) -> None:
    assert kind_of(other) is None


def test_where_nothing_is_added_there_are_the_three() -> None:
    assert list(known()) == ["efi", "iso", "img"]


UKI = {
    "kind": "uki",
    "content_type": "application/vnd.dispatch+uki",
    "served": "application/efi",
    "suffix": ".uki",
}


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("kind", "u-k-i", "kind: expected an identifier in lower case, got 'u-k-i'"),
        ("kind", "UKI", "kind: expected an identifier in lower case, got 'UKI'"),
        ("content_type", "uki", "uki: content_type: expected a media type in lower case, got 'uki'"),
        ("served", "application/EFI", "uki: served: expected a media type in lower case, got 'application/EFI'"),
        ("suffix", "uki", "uki: suffix: expected one such as '.efi', got 'uki'"),
    ],
)
def test_what_is_no_kind_is_told(field: str, value: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Media(**{**UKI, field: value})
    assert str(caught.value) == complaint


@pytest.mark.parametrize("field", ["kind", "content_type", "suffix"])
def test_two_kinds_of_one_name_are_told(field: str) -> None:
    taken = getattr(BUILT_IN[0], field)
    with pytest.raises(ConfigError, match="expected one kind that has it, got two"):
        gathered([*BUILT_IN, Media(**{**UKI, field: taken})])


def test_several_kinds_may_be_served_alike() -> None:
    assert list(gathered([*BUILT_IN, Media(**UKI)])) == ["efi", "iso", "img", "uki"]
