"""Open pages while others work: rows under a hand, tabs in the background, what has left, what other tabs change."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsers import chromium, needs_chromium, sign_in, visit
from disk import needs_shim
from page_copies import difference
from quiet_lab import NAMES, QuietLab
from service_bench import PASSWORD
from waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Route

pytestmark = [pytest.mark.browser, needs_chromium, needs_shim]

HOST = "127.0.0.96"
UNKNOWN = "127.0.0.31"  # a machine that nobody has approved
#: As a browser does when a tab goes to the background, or comes back from there.
SHOWN = """(shown) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => !shown });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[QuietLab]:
    with QuietLab(tmp_path, HOST) as running:
        running.begin()
        yield running


@pytest.fixture
def ada(browser: Browser, lab: QuietLab) -> Iterator[Page]:
    with visit(browser, lab.url, viewport={"width": 1300, "height": 900}) as page:
        sign_in(page, "ada")
        yield page


@pytest.fixture
def eve(browser: Browser, lab: QuietLab) -> Iterator[Page]:
    """Somebody who looks on: what she sees, everybody has been told of."""
    with visit(browser, lab.url) as page:
        sign_in(page, "eve")
        page.goto("/queue")
        yield page


def expect_order(page: Page, *names: str) -> None:
    """Wait until the rows of the queue are these."""
    from playwright.sync_api import expect

    expect(page.locator("#queue tbody th a")).to_have_text([re.compile(f"^{name}$") for name in names])


def hold(lab: QuietLab, name: str, reason: str) -> None:
    [run] = [each["id"] for each in lab.ask("GET", "/groups/quiet/queue")["runs"] if each["name"] == name]
    lab.ask("POST", f"/runs/{run}/hold", {"reason": reason})


def move_to_top(lab: QuietLab, name: str) -> None:
    [run] = [each["id"] for each in lab.ask("GET", "/groups/quiet/queue")["runs"] if each["name"] == name]
    lab.ask("POST", f"/runs/{run}/move", {"top": True})


def requests_of(page: Page) -> list[str]:
    """The addresses that a page asks for from now on."""
    found: list[str] = []
    page.on("request", lambda request: found.append(request.url))
    return found


def open_told(page: Page, path: str) -> None:
    """Open a page, and return when it has been told how the lab stands and has asked for itself after that."""
    with page.expect_response(lambda answer: "dispatch-page" in answer.request.headers):
        page.goto(path)


def passes_until(page: Page, shown: Locator) -> None:
    """Have some seconds pass on a page whose clock is stopped until this is there: fewer than after which it looks."""
    from playwright.sync_api import Error

    for _ in range(60):
        page.clock.run_for(500)
        try:
            shown.wait_for(timeout=1000)
        except Error:
            continue
        return
    pytest.fail("the page does not show it by what it was told alone")


# Tabs in the background


def test_a_tab_in_the_background_asks_for_nothing_and_catches_up(lab: QuietLab, ada: Page, eve: Page) -> None:
    ada.goto("/queue")
    expect_order(ada, *NAMES)
    with ada.expect_event("requestfailed", lambda request: "/api/v1/events" in request.url):
        ada.evaluate(SHOWN, False)
    asked = requests_of(ada)
    for number in range(3):
        hold(lab, "beta", f"number {number}")
        eve.get_by_text(f"number {number}").wait_for()
    assert asked == []
    assert ada.get_by_text("number").count() == 0
    ada.evaluate(SHOWN, True)
    ada.get_by_text("number 2").wait_for()
    assert difference(ada) == ""


def test_a_tab_that_is_hidden_for_a_moment_misses_nothing(lab: QuietLab, ada: Page, eve: Page) -> None:
    ada.clock.install()
    open_told(ada, "/queue")
    ada.clock.pause_at(ada.evaluate("Date.now() + 1000"))
    ada.evaluate(SHOWN, False)
    hold(lab, "beta", "for the night")
    eve.get_by_text("for the night").wait_for()
    ada.clock.run_for(1000)
    ada.evaluate(SHOWN, True)
    passes_until(ada, ada.get_by_text("for the night"))


def test_history_is_told_of_each_run_that_ends(lab: QuietLab, ada: Page) -> None:
    ada.clock.install()
    open_told(ada, "/history")
    ada.clock.pause_at(ada.evaluate("Date.now() + 1000"))
    lab.ask("DELETE", f"/runs/{lab.ask('GET', '/groups/quiet/queue')['runs'][0]['id']}")
    passes_until(ada, ada.locator("#history").get_by_role("link", name="alpha", exact=True))


# Rows under a hand


def grab(page: Page, place: int) -> None:
    page.locator("#queue tbody .grip").nth(place).hover()
    page.mouse.down()


def carry(page: Page, place: int) -> None:
    """Move what is dragged to the upper part of a row."""
    there = page.locator("#queue tbody .grip").nth(place).bounding_box()
    assert there is not None
    page.mouse.move(there["x"] + 5, there["y"] + 20, steps=40)
    page.mouse.move(there["x"] + 5, there["y"] + 4, steps=20)


def test_rows_stay_while_one_is_dragged_and_follow_when_it_is_dropped(lab: QuietLab, ada: Page, eve: Page) -> None:
    ada.goto("/queue")
    expect_order(ada, *NAMES)
    grab(ada, 3)
    carry(ada, 1)
    expect_order(ada, "alpha", "delta", "beta", "gamma")
    asked = requests_of(ada)
    move_to_top(lab, "gamma")
    hold(lab, "beta", "for the night")
    eve.get_by_text("for the night").wait_for()
    expect_order(eve, "gamma", "alpha", "beta", "delta")
    expect_order(ada, "alpha", "delta", "beta", "gamma")
    assert ada.get_by_text("for the night").count() == 0
    assert [url for url in asked if url.endswith("/queue")] == []
    ada.mouse.up()
    ada.get_by_text("for the night").wait_for()
    expect_order(ada, "gamma", "alpha", "delta", "beta")
    assert lab.names() == ["gamma", "alpha", "delta", "beta"]


def test_a_row_that_the_lab_was_not_told_of_goes_back(lab: QuietLab, ada: Page) -> None:
    """Though nothing has changed in the lab since the page was asked for."""
    open_told(ada, "/queue")
    expect_order(ada, *NAMES)
    ada.route("**/queue", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    grab(ada, 3)
    carry(ada, 0)
    expect_order(ada, "delta", "alpha", "beta", "gamma")
    ada.mouse.up()
    ada.get_by_text("The lab could not be reached").wait_for()
    ada.mouse.move(2, 2)
    expect_order(ada, *NAMES)
    assert lab.names() == list(NAMES)


def test_who_moves_a_row_sees_it_there_though_an_older_answer_is_under_way(lab: QuietLab, ada: Page) -> None:
    ada.goto("/queue")
    expect_order(ada, *NAMES)
    ada.locator("#queue tbody tr").nth(2).focus()
    late: list[Route] = []

    def delay(route: Route) -> None:
        if route.request.method == "GET" and not late:
            late.append(route)
        else:
            route.continue_()

    ada.route("**/queue", delay)
    hold(lab, "beta", "for the night")
    gives_up = time.monotonic() + PATIENCE
    while not late:
        assert time.monotonic() < gives_up
        ada.wait_for_timeout(20)
    answer = late[0].fetch()
    ada.keyboard.press("t")
    ada.get_by_text("gamma: moved to the top.").wait_for()
    late[0].fulfill(response=answer)
    expect_order(ada, "gamma", "alpha", "beta", "delta")
    assert "gamma" in ada.locator("tr:focus").inner_text()


# What has left, and what other tabs change


def ask_for_work() -> None:
    """Have a machine that the lab does not know ask it for work."""
    connection = http.client.HTTPConnection(HOST, 8765, source_address=(UNKNOWN, 0))
    connection.request("HEAD", "/dispatch")
    connection.getresponse().read()
    connection.close()


def test_a_page_whose_machine_has_left_says_so_until_it_is_back(lab: QuietLab, ada: Page) -> None:
    ask_for_work()
    wait_until(lambda: any(each["id"] == UNKNOWN for each in lab.ask("GET", "/machines")))
    ada.goto(f"/machines/{UNKNOWN}")
    ada.get_by_role("heading", name=UNKNOWN).wait_for()
    lab.ask("DELETE", f"/machines/{UNKNOWN}")
    told = ada.locator("#lost")
    told.get_by_text("and stays so until the lab shows it again").wait_for()
    assert UNKNOWN in told.inner_text()
    ada.get_by_role("heading", name=UNKNOWN).wait_for()
    ask_for_work()
    told.wait_for(state="hidden")
    assert difference(ada) == ""


def test_who_signs_in_anew_or_takes_another_look_does_so_for_all_tabs(lab: QuietLab, ada: Page) -> None:
    ada.goto("/queue")
    other = ada.context.new_page()
    other.goto("/sign-in")
    other.get_by_label("Name").fill("ada")
    other.get_by_label("Password").fill(PASSWORD)
    other.get_by_role("button", name="Sign in").click()
    other.locator("#menu summary").click()
    other.get_by_role("button", name="Dark").click()
    other.locator("html[data-look=dark]").wait_for()
    hold(lab, "beta", "for the night")
    ada.get_by_text("for the night").wait_for()
    assert ada.locator("html").get_attribute("data-look") == "dark"
    ada.locator("#queue button[name=top]").nth(2).click()
    ada.get_by_text("gamma: moved to the top.").wait_for()
    assert lab.names()[0] == "gamma"
    assert difference(ada) == ""


def test_what_is_picked_stays_and_what_can_be_picked_is_as_it_is_now(lab: QuietLab, ada: Page) -> None:
    run: str = lab.ask("GET", "/groups/quiet/queue")["runs"][0]["id"]
    lab.ask("DELETE", f"/runs/{run}")
    ada.goto(f"/runs/{run}")
    pick = ada.get_by_label("Count it as")
    pick.select_option("failed")
    lab.ask("POST", f"/runs/{run}/override", {"outcome": "skipped", "reason": "nobody needs it"})
    ada.locator("main .note").get_by_text("nobody needs it").wait_for()
    assert pick.input_value() == "failed"
    assert pick.locator("option").all_inner_texts() == ["passed", "failed", "error"]
    assert difference(ada) == ""


def test_what_is_half_typed_stays_where_somebody_else_changes_the_same(lab: QuietLab, ada: Page) -> None:
    """And what the lab has by now is what the field goes back to."""
    from playwright.sync_api import expect

    run: str = lab.ask("GET", "/groups/quiet/queue")["runs"][0]["id"]
    ada.goto(f"/queue/edit/{run}")
    name = ada.locator("#f-name")
    name.fill("alpha, the sec")
    lab.ask("PATCH", f"/runs/{run}", {"name": "omega"})
    expect(ada.get_by_role("heading", level=1)).to_have_text("Edit omega")
    assert name.input_value() == "alpha, the sec"
    assert difference(ada) == ""
    name.fill("omega")
    ada.get_by_role("button", name="Save").click()
    ada.get_by_text("Nothing is different").wait_for()
    assert lab.names()[0] == "omega"
