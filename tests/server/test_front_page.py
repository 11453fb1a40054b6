"""The page at the address of a service, as a browser shows it."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from labs import plan

from pytest_dispatch.lab_program.in_process import InProcessLab
from pytest_dispatch.lab_program.service_config import ServiceConfig


class Page(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[InProcessLab]:
    lab = InProcessLab(plan(tmp_path, private=False), ServiceConfig(api_port=0))
    lab.start("")
    yield lab
    lab.stop()


@pytest.fixture
def browser(lab: InProcessLab) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=lab.url, follow_redirects=True) as client:
        yield client


def page_of(reply: httpx.Response) -> Page:
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    return Page(reply.text)


def test_it_says_what_is_here_and_runs_nothing(browser: httpx.Client) -> None:
    page = page_of(browser.get("/"))
    assert "Nobody is signed in here. Ask an administrator for a link (dispatch user link NAME)." in page.text
    assert "docs/users.md" in page.text
    assert "script" not in page.tags


def test_a_link_to_sign_in_ends_here_and_all_that_is_named_is_there(lab: InProcessLab, browser: httpx.Client) -> None:
    page = page_of(browser.get(lab.sign_in_path))
    assert "Signed in: admin, admin." in page.text
    assert page.links
    assert {browser.get(link).status_code for link in page.links} == {200}


def test_no_page_of_somebody_else_gets_it(browser: httpx.Client) -> None:
    reply = browser.get("/", headers={"Host": "evil.example"})
    assert reply.status_code == 421
