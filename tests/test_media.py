"""Which assets are workloads, and as what firmware gets them."""

from __future__ import annotations

import pytest

from pytest_dispatch.core.media import MEDIA, SUFFIXES, kind_of, served_as
from pytest_dispatch.core.model import Kind


@pytest.mark.parametrize(
    ("content_type", "kind", "served"),
    [
        ("application/vnd.dispatch+efi", Kind.EFI, "application/efi"),
        ("application/vnd.dispatch+iso", Kind.ISO, "application/vnd.efi-iso"),
        ("application/vnd.dispatch+img", Kind.IMG, "application/vnd.efi-img"),
    ],
)
def test_the_three_content_types_of_the_protocol(content_type: str, kind: Kind, served: str) -> None:
    assert kind_of(content_type) is kind
    assert served_as(kind) == served


@pytest.mark.parametrize("written", ["Application/VND.dispatch+EFI", "application/vnd.dispatch+efi; charset=binary"])
def test_case_and_parameters_do_not_matter(written: str) -> None:
    assert kind_of(written) is Kind.EFI


@pytest.mark.parametrize("other", ["", "application/efi", "application/octet-stream", "application/vnd.dispatch+efix"])
def test_any_other_type_is_no_workload(other: str) -> None:
    assert kind_of(other) is None


def test_every_kind_has_a_type_and_a_suffix() -> None:
    assert {media.kind for media in MEDIA.values()} == set(SUFFIXES.values()) == set(Kind)
    assert set(SUFFIXES) == {".efi", ".iso", ".img"}
