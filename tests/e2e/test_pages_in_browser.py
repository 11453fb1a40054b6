"""The pages of a service in Chromium: steering by mouse and keyboard, keeping up to date, a lab that is killed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from browsers import chromium, faults, needs_chromium, sign_in, visit
from disk import needs_shim
from quiet_lab import NAMES
from quiet_lab import QuietLab as Service
from waiting import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, needs_chromium, needs_shim]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path, "127.0.0.94") as service:
        service.begin()
        yield service


@pytest.fixture
def ada(browser: Browser, lab: Service) -> Iterator[Page]:
    with visit(browser, lab.url, viewport={"width": 1300, "height": 900}) as page:
        sign_in(page, "ada")
        yield page


def expect_order(page: Page, *names: str) -> None:
    """Wait until the rows of the queue are these."""
    from playwright.sync_api import expect

    expect(page.locator("#queue tbody th a")).to_have_text([re.compile(f"^{name}$") for name in names])


def test_rows_are_dragged_and_that_is_undone(lab: Service, ada: Page) -> None:
    ada.goto("/queue")
    expect_order(ada, *NAMES)
    grip, target = (ada.locator("#queue tbody .grip").nth(place) for place in (3, 0))
    there = target.bounding_box()
    assert there is not None
    grip.hover()
    ada.mouse.down()
    ada.mouse.move(there["x"] + 5, there["y"] + 20, steps=40)
    ada.mouse.move(there["x"] + 5, there["y"] + 4, steps=20)
    ada.mouse.up()
    expect_order(ada, "delta", "alpha", "beta", "gamma")
    ada.get_by_text("delta: moved.").wait_for()
    assert lab.names() == ["delta", "alpha", "beta", "gamma"]
    ada.get_by_role("button", name="Undo").click()
    expect_order(ada, *NAMES)
    ada.get_by_text("moved back").wait_for()
    assert lab.names() == list(NAMES)


def test_everything_is_done_by_keys(lab: Service, ada: Page) -> None:
    ada.keyboard.press("g")
    ada.keyboard.press("q")
    ada.wait_for_url("**/queue")
    expect_order(ada, *NAMES)
    for key in ("j", "j", "j", "t"):
        ada.keyboard.press(key)
    expect_order(ada, "gamma", "alpha", "beta", "delta")
    ada.keyboard.press("Alt+ArrowDown")
    expect_order(ada, "alpha", "gamma", "beta", "delta")
    ada.get_by_text("moved one place down").wait_for()
    ada.keyboard.press("u")
    expect_order(ada, "gamma", "alpha", "beta", "delta")
    ada.keyboard.press("h")
    ada.get_by_label("Reason").fill("it is mended")
    ada.keyboard.press("Enter")
    ada.get_by_text("it is mended (ada)").wait_for()
    ada.keyboard.press("c")
    ada.get_by_text("Cancel 1 run?").wait_for()
    ada.keyboard.press("Escape")
    assert len(lab.names()) == len(NAMES)
    ada.keyboard.press("?")
    ada.get_by_role("heading", name="Keys").wait_for()


def test_what_others_do_is_seen_but_no_row_moves_under_the_pointer(lab: Service, ada: Page) -> None:
    ada.goto("/queue")
    expect_order(ada, *NAMES)
    ada.locator("#queue tbody tr").nth(1).hover()
    runs = lab.ask("GET", "/groups/quiet/queue")["runs"]
    lab.ask("POST", f"/runs/{runs[3]['id']}/move", {"top": True})
    lab.ask("POST", f"/runs/{runs[2]['id']}/hold", {"reason": "for the night"})
    ada.get_by_text("for the night").wait_for()
    expect_order(ada, *NAMES)
    ada.mouse.move(2, 2)
    expect_order(ada, "delta", "alpha", "beta", "gamma")


def test_a_lab_that_is_killed_leaves_the_page_and_signs_nobody_out(lab: Service, ada: Page) -> None:
    ada.goto("/queue")
    expect_order(ada, *NAMES)
    lab.kill()
    ada.get_by_text(re.compile("No connection to the lab. This page is as of ")).wait_for()
    expect_order(ada, *NAMES)
    ada.locator("#queue button[name=top]").nth(2).click()
    ada.get_by_text("The lab could not be reached").wait_for()
    lab.start()
    ada.locator("#lost").wait_for(state="hidden")
    ada.get_by_role("heading", level=1).click()  # nobody uses the table any more
    lab.ask("POST", "/groups/quiet/order", [lab.ask("GET", "/groups/quiet/queue")["runs"][1]["id"]])
    expect_order(ada, "beta", "alpha", "gamma", "delta")
    ada.reload()
    expect_order(ada, "beta", "alpha", "gamma", "delta")


def test_what_is_open_is_what_a_fresh_page_is(lab: Service, ada: Page) -> None:
    """After changes of others, but for times and what the viewer has selected."""
    ada.goto("/queue")
    runs = lab.ask("GET", "/groups/quiet/queue")["runs"]
    for number, run in enumerate(runs):
        lab.ask("POST", f"/runs/{run['id']}/move", {"top": True})
        if number % 2:
            lab.ask("POST", f"/runs/{run['id']}/hold", {"reason": f"number {number}"})
    lab.ask("DELETE", f"/runs/{runs[0]['id']}")
    ada.get_by_text("number 3").wait_for()
    expect_order(ada, "delta", "gamma", "beta")
    main = "() => document.querySelector('main').outerHTML.replace(/<time.*?<\\/time>/g, '')"
    live = ada.evaluate(main)
    ada.reload()
    expect_order(ada, "delta", "gamma", "beta")
    assert ada.evaluate(main) == live


def test_the_open_page_of_a_machine_is_what_a_fresh_one_is(lab: Service, ada: Page) -> None:
    ada.goto("/machines/rack-1")
    ada.get_by_text("As a table").click()
    lab.ask("POST", "/machines/rack-1/hold", {"reason": "its fan is loud"})
    ada.locator("#main .note").get_by_text("its fan is loud").wait_for()
    ada.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    ada.get_by_role("rowheader", name="machine.hold").wait_for()
    main = "() => document.querySelector('main').outerHTML.replace(/<time.*?<\\/time>/g, '').replace(/ open=\"\"/, '')"
    live = ada.evaluate(main)
    ada.reload()
    assert ada.evaluate(main) == live


PATHS = (
    "/",
    "/queue",
    "/machines",
    "/machines/rack-1",
    "/runs/{run}",
    "/sessions",
    "/lab",
    "/account",
    "/users",
    "/audit",
    "/builds",
    "/history",
    "/history/charts",
    "/templates",
    "/find",
    "/find?q=a",
    "/cycles",
    "/cycles/nightly",
)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1400])
def test_axe_finds_nothing_and_nothing_is_cut_off(browser: Browser, lab: Service, theme: str, width: int) -> None:
    lab.ask("POST", "/machines/rack-1/hold", {"reason": "its fan is loud"})
    lab.ask("POST", "/groups/quiet/hold", {"reason": "it is night"})
    looks = {"viewport": {"width": width, "height": 800}, "color_scheme": theme}
    with visit(browser, lab.url, **looks) as page:
        page.goto("/sign-in")
        assert faults(page) == []
        sign_in(page, "ada")
        run = lab.ask("GET", "/groups/quiet/queue")["runs"][0]["id"]
        for path in (each.format(run=run) for each in PATHS):
            page.goto(path)
            page.locator("main").wait_for()
            assert faults(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth") == width, path


LONG = "a-name-without-blanks-" * 10


def test_no_name_makes_a_page_wider_than_its_window(browser: Browser, lab: Service) -> None:
    """Nor is any page of the bar out of sight."""
    lease = {"kind": "durable", "owner": "root@vm:/tmp/a-folder", "lasts": 3600}
    opened = lab.ask("POST", "/sessions", {"source": LONG, "policy": {}, "lease": lease})
    efi = {"media": "efi", "location": "folder:kept/alpha.efi", "size": 16}
    workload = {"name": LONG, "kind": "boot", "payload": efi, "labels": [LONG]}
    headers = {"Authorization": f"Bearer {lab.token}", "Dispatch-Epoch": "1"}
    path = f"{lab.url}/api/v1/sessions/{opened['id']}/runs"
    reply = httpx.post(path, json=[{"key": "k", "workload": workload}], headers=headers, timeout=PATIENCE)
    assert reply.is_success, reply.text
    run = reply.json()[0]["run"]["id"]
    with visit(browser, lab.url) as page:
        sign_in(page, "ada")
        for width in (390, 600, 820, 900, 1030, 1300):
            page.set_viewport_size({"width": width, "height": 800})
            for path in ("/queue", f"/runs/{run}", "/sessions"):
                page.goto(path)
                page.locator("main").wait_for()
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
                bar = "(nav => nav.scrollWidth - nav.clientWidth)(document.querySelector('#top nav'))"
                assert page.evaluate(bar) <= 0, (path, width)


def test_a_token_is_shown_until_it_is_closed_and_its_form_is_empty_again(lab: Service, ada: Page) -> None:
    ada.goto("/account")
    ada.get_by_label("What for").fill("nightly")
    ada.get_by_role("button", name="Make a token").click()
    shown = ada.locator("#notes .secret")
    shown.wait_for()
    bearer = {"Authorization": f"Bearer {shown.inner_text()}"}
    assert httpx.get(f"{lab.url}/api/v1/me", headers=bearer, timeout=PATIENCE).json()["name"] == "ada"
    ada.get_by_role("rowheader", name="nightly").wait_for()
    assert ada.get_by_label("What for").input_value() == ""
    ada.get_by_role("button", name="Close").click()
    assert shown.count() == 0
    ada.get_by_role("button", name="Revoke nightly").click()
    ada.get_by_role("button", name="Revoke it").click()
    ada.get_by_text("revoked", exact=True).wait_for()


def test_the_menu_leads_to_the_pages_of_a_role(browser: Browser, lab: Service, ada: Page) -> None:
    for key, path in (("s", "/sessions"), ("l", "/lab"), ("y", "/account"), ("u", "/users"), ("a", "/audit")):
        ada.keyboard.press("g")
        ada.keyboard.press(key)
        ada.wait_for_url(f"**{path}")
    with visit(browser, lab.url) as page:
        sign_in(page, "eve")
        page.locator("#menu summary").click()
        menu = page.get_by_role("navigation", name="Further pages")
        assert menu.get_by_role("link").all_inner_texts() == ["Your account"]


def test_a_page_without_scripts_steers_too(browser: Browser, lab: Service) -> None:
    with visit(browser, lab.url, java_script_enabled=False) as page:
        sign_in(page, "ada")
        page.goto("/queue")
        page.locator("#queue tbody input").nth(2).check()
        page.get_by_role("button", name="To the top").click()
        page.get_by_text("gamma: moved to the top.").wait_for()
        assert lab.names() == ["gamma", "alpha", "beta", "delta"]
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("gamma: moved back.").wait_for()
        assert lab.names() == list(NAMES)


def ended(lab: Service) -> str:
    """Cancel the first run that waits, and return its id."""
    run: str = lab.ask("GET", "/groups/quiet/queue")["runs"][0]["id"]
    lab.ask("DELETE", f"/runs/{run}")
    return run


def test_what_is_typed_outlasts_changes_of_others(lab: Service, ada: Page) -> None:
    run = ended(lab)
    ada.goto(f"/runs/{run}")
    ada.get_by_role("textbox", name="Note").fill("it was the fan")
    ada.get_by_label("because").fill("the fan")
    ada.get_by_label("Count it as").select_option("failed")
    for number in range(3):
        lab.ask("POST", f"/runs/{run}/notes", {"text": f"note {number}"})
        ada.get_by_text(f"note {number}").wait_for()
    assert ada.get_by_role("textbox", name="Note").input_value() == "it was the fan"
    assert ada.get_by_label("because").input_value() == "the fan"
    assert ada.get_by_label("Count it as").input_value() == "failed"
    ada.goto("/queue")
    ada.get_by_label("Workload").fill("gam")
    ada.locator("#queue tbody input").nth(0).check()
    for name in ("gamma", "delta"):
        held = next(each["id"] for each in lab.ask("GET", "/groups/quiet/queue")["runs"] if each["name"] == name)
        lab.ask("POST", f"/runs/{held}/hold", {"reason": f"not {name}"})
        ada.get_by_text(f"not {name}").wait_for()
    assert ada.get_by_label("Workload").input_value() == "gam"
    assert ada.locator("#queue tbody tr", has_text="beta").get_by_role("checkbox").is_checked()


def test_a_password_and_a_role_outlast_changes_of_others(lab: Service, ada: Page) -> None:
    from playwright.sync_api import expect

    ada.goto("/users")
    ada.get_by_label("Password, if any").fill("a long and secret one")
    ada.get_by_role("combobox", name="Role of eve").select_option("operator")
    for name in ("abe", "zoe"):
        lab.ask("POST", "/users", {"name": name, "role": "reader"})
        ada.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
        ada.locator(f"#user-{name}").wait_for()
    assert ada.get_by_label("Password, if any").input_value() == "a long and secret one"
    assert ada.get_by_role("combobox", name="Role of eve").input_value() == "operator"
    ada.get_by_role("button", name="Set the role of eve").click()
    ada.get_by_text("eve: now operator.").wait_for()
    lab.ask("PUT", "/users/eve", {"role": "reader"})
    ada.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    expect(ada.get_by_role("combobox", name="Role of eve")).to_have_value("reader")


def test_a_choice_sends_nothing_and_a_double_click_sends_once(lab: Service, ada: Page) -> None:
    from playwright.sync_api import expect

    run = ended(lab)
    ada.goto(f"/runs/{run}")
    sent: list[str] = []
    ada.on("request", lambda request: sent.append(request.post_data or "") if request.method == "POST" else None)
    ada.get_by_label("Count it as").select_option("failed")
    ada.get_by_label("Count it as").select_option("passed")
    ada.get_by_role("button", name="Queue it").dblclick()
    ada.locator("#notes .note").first.wait_for()
    ada.get_by_role("textbox", name="Note").fill("it was the fan")
    ada.get_by_role("button", name="Add it").dblclick()
    ada.locator("article", has_text="it was the fan").wait_for()
    expect(ada.get_by_role("textbox", name="Note")).to_have_value("")
    assert len(sent) == 2, sent
    assert len(lab.names()) == len(NAMES)
    assert len(lab.ask("GET", f"/runs/{run}")["notes"]) == 1


def test_enter_on_a_tick_opens_the_row_and_moves_nothing(browser: Browser, lab: Service, ada: Page) -> None:
    ada.goto("/queue")
    beta = ada.locator("#queue tbody tr").nth(1)
    beta.get_by_role("checkbox").focus()
    ada.keyboard.press("Enter")
    ada.wait_for_url("**/runs/*")
    ada.get_by_role("heading", name="beta").wait_for()
    with visit(browser, lab.url, java_script_enabled=False) as page:
        sign_in(page, "ada")
        for path in ("/queue", "/templates"):
            page.goto(path)
            page.locator("form tbody input").nth(1).press("Enter")
            page.get_by_role("link", name="Machines").click()
            page.wait_for_url("**/machines")
    assert lab.names() == list(NAMES)


def test_what_was_asked_is_what_is_done(lab: Service, ada: Page) -> None:
    """A session that another program takes over while the question is open stays."""
    wanted = {"source": "w", "policy": {}, "lease": {"kind": "durable", "owner": "o", "lasts": 900}}
    session = lab.ask("POST", "/sessions", wanted)["id"]
    ada.goto("/sessions")
    ada.locator(f"#s-{session}").get_by_role("button").click()
    ada.get_by_role("heading", name="End this session?").wait_for()
    lab.ask("POST", f"/sessions/{session}/lease", wanted)
    ada.get_by_role("button", name="End the session", exact=True).click()
    ada.locator("#ask").get_by_text("this session was taken over").wait_for()
    ada.get_by_role("button", name="Back").click()
    ada.reload()
    ada.locator(f"#s-{session}").wait_for()


def test_a_reason_outlasts_a_lab_that_is_away(lab: Service, ada: Page) -> None:
    ada.goto("/queue")
    ada.locator("#queue tbody tr").nth(1).focus()
    ada.keyboard.press("h")
    ada.get_by_label("Reason").fill("its fan is loud")
    lab.kill()
    ada.keyboard.press("Enter")
    ada.locator("#ask").get_by_text("The lab could not be reached").wait_for()
    assert ada.get_by_label("Reason").input_value() == "its fan is loud"
    lab.start()
    ada.get_by_label("Reason").press("Enter")
    ada.get_by_text("its fan is loud (ada)").wait_for()
    ada.locator("#ask").wait_for(state="hidden")


def test_a_page_that_fails_is_no_lost_connection(ada: Page) -> None:
    ada.goto("/queue")
    ada.route("**/queue", lambda route: route.fulfill(status=500, content_type="text/plain", body="500: no"))
    ada.locator("#queue tbody tr").nth(1).get_by_role("button", name="Top").click()
    ada.get_by_text("The lab failed at that (status 500).").wait_for()
    ada.get_by_text("The lab failed to make this page (status 500).").wait_for()
    ada.unroute("**/queue")
    ada.locator("#lost").wait_for(state="hidden")


def test_keys_that_steer_are_for_who_may_steer(browser: Browser, lab: Service, ada: Page) -> None:
    with visit(browser, lab.url) as page:
        sent: list[str] = []
        sign_in(page, "eve")
        page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
        page.goto("/queue")
        for key in ("j", "c", "h", "t", "Alt+ArrowDown", "?"):
            page.keyboard.press(key)
        page.get_by_role("heading", name="Keys").wait_for()
        assert "cancel" not in page.locator("#ask dl").inner_text()
        assert page.locator("#notes .note").count() == 0
        assert sent == []
    for path in ("/machines", "/templates"):
        ada.goto(path)
        ada.keyboard.press("j")
        with ada.expect_request("**" + path, timeout=PATIENCE * 1000) as asked:
            ada.keyboard.press("c")
            ada.reload()
        assert asked.value.method == "GET"
    ada.keyboard.press("?")
    assert "cancel" in ada.locator("#ask dl").inner_text()


def palette_names(page: Page) -> list[str]:
    return page.locator("#palette-list [role=option] > span").all_inner_texts()


def test_the_palette_goes_anywhere_by_a_few_letters(lab: Service, ada: Page) -> None:
    from playwright.sync_api import expect

    ada.goto("/queue")
    ada.keyboard.press("Control+k")
    field = ada.get_by_role("combobox", name="Find, or do")
    expect(field).to_be_focused()
    ada.keyboard.type("rack")
    option = ada.get_by_role("option", name="rack-1 machine")
    option.wait_for()
    assert faults(ada) == []
    for _ in range(palette_names(ada).index("rack-1")):
        ada.keyboard.press("ArrowDown")
    expect(option).to_have_attribute("aria-selected", "true")
    expect(field).to_have_attribute("aria-activedescendant", option.get_attribute("id") or "none")
    ada.keyboard.press("Enter")
    ada.wait_for_url("**/machines/rack-1")
    ada.keyboard.press("Control+k")
    ada.keyboard.type("no such thing, nowhere")
    ada.get_by_text("1 found").wait_for()
    assert palette_names(ada) == ["History: no such thing, nowhere"]
    ada.keyboard.press("Escape")
    ada.locator("#palette").wait_for(state="hidden")
    ada.keyboard.press("/")
    expect(field).to_be_focused()


def test_the_palette_does_what_the_page_offers(lab: Service, ada: Page) -> None:
    ada.goto("/machines/rack-1")
    ada.keyboard.press("Control+k")
    ada.keyboard.type("hold")
    ada.get_by_role("option", name="Hold …").first.wait_for()
    ada.keyboard.press("Enter")
    ada.get_by_label("Reason").fill("its fan is loud")
    ada.keyboard.press("Enter")
    ada.locator("#main .note").get_by_text("its fan is loud (ada").wait_for()
    ada.locator("#ask").wait_for(state="hidden")
    ada.goto("/queue")
    ada.keyboard.press("j")
    ada.keyboard.press("Control+k")
    ada.get_by_role("option", name="Top alpha do").wait_for()
    assert palette_names(ada)[:3] == ["Edit alpha", "Top alpha", "Cancel alpha"], (
        "the row that has the focus comes first"
    )
    ada.keyboard.type("top gam")
    ada.get_by_role("option", name="Top gamma do").wait_for()
    ada.keyboard.press("Enter")
    expect_order(ada, "gamma", "alpha", "beta", "delta")


def test_the_palette_offers_a_reader_nothing_that_steers(browser: Browser, lab: Service) -> None:
    with visit(browser, lab.url) as page:
        sign_in(page, "eve")
        page.goto("/machines/rack-1")
        page.get_by_role("link", name="Find: Ctrl K").click()
        page.get_by_role("option", name="Audit").wait_for(state="detached")
        page.get_by_role("option", name="Builds page").wait_for()
        names = palette_names(page)
        assert "Sign out" in names
        assert not [name for name in names if name.startswith(("Hold", "Remove", "Audit"))]


def test_a_palette_without_a_lab_offers_the_page(lab: Service, ada: Page) -> None:
    ada.goto("/queue")
    lab.kill()
    ada.keyboard.press("Control+k")
    ada.get_by_text("The lab could not be asked").wait_for()
    ada.get_by_role("option", name="Top alpha do").wait_for()


def test_without_scripts_find_is_a_page(browser: Browser, lab: Service) -> None:
    with visit(browser, lab.url, java_script_enabled=False) as page:
        sign_in(page, "eve")
        page.get_by_role("link", name="Find: Ctrl K").click()
        page.get_by_label("A part of a name").fill("rack")
        page.get_by_role("button", name="Find").click()
        page.locator(".found a", has_text="rack-1").click()
        page.wait_for_url("**/machines/rack-1")


def test_the_list_of_keys_has_every_page(ada: Page) -> None:
    ada.keyboard.press("?")
    keys = ada.locator("#ask dl").inner_text()
    for told in ("Ctrl K", "g q", "go to Queue", "g a", "go to Audit", "cancel"):
        assert told in keys


@pytest.mark.parametrize("looks", [{"forced_colors": "active"}, {"reduced_motion": "reduce"}], ids=["forced", "still"])
def test_pages_are_legible_as_a_system_wants_them(browser: Browser, lab: Service, looks: dict[str, str]) -> None:
    lab.ask("POST", "/machines/rack-1/hold", {"reason": "its fan is loud"})
    with visit(browser, lab.url, **looks) as page:
        sign_in(page, "ada")
        page.goto("/machines")
        state = page.locator("tbody .state").first
        assert state.evaluate("each => getComputedStyle(each).animationName") == "none"
        if "forced_colors" in looks:
            assert state.evaluate("each => getComputedStyle(each).borderTopStyle") == "solid"
        assert faults(page) == []


def test_what_is_printed_is_what_a_page_says(lab: Service, ada: Page) -> None:
    ada.goto(f"/runs/{ended(lab)}")
    ada.emulate_media(media="print")
    assert not ada.locator("#top").is_visible()
    assert not ada.get_by_role("button", name="Queue it").is_visible()
    assert ada.get_by_role("heading", name="alpha").is_visible()
