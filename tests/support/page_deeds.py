"""What a person can do on the pages of a lab, by mouse and keyboard: a table of deeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

REASONS = ("its fan is loud", "for the night", "<b>until Ada is back</b>", "a reason that is long " * 6)
LABELS = ("", "board", "quiet", "board quiet")


@dataclass(frozen=True)
class Deed:
    """Something that can be done.

    Attributes:
        needs: A selector of what must be on the page.
        do: Does it.
        leads: Whether it may lead to another address.
        empties: Fields that are empty afterwards.
    """

    name: str
    needs: str
    do: Callable[[Page, Random], None]
    leads: bool = False
    empties: tuple[str, ...] = ()

    @property
    def is_undo(self) -> bool:
        return self.name == "undo"

    def is_offered(self, page: Page) -> bool:
        return page.locator(self.needs).count() > 0


def one_of(page: Page, selector: str, chance: Random) -> Locator:
    found = page.locator(selector)
    return found.nth(chance.randrange(found.count()))


def answer(page: Page, chance: Random) -> None:
    """Answer what the page asks, if it does, and wait until it says what came of it."""
    asked, said = page.locator("#ask[open] form"), page.locator("#notes .note, #ask .note")
    asked.or_(said).first.wait_for()
    if asked.count():
        if asked.locator("[name=reason]").count():
            asked.locator("[name=reason]").fill(chance.choice(REASONS))
        asked.locator("button.main").click()
        said.first.wait_for()


def pressing(selector: str) -> Callable[[Page, Random], None]:
    """Return what presses one of these buttons, and answers."""

    def press(page: Page, chance: Random) -> None:
        one_of(page, selector, chance).click()
        answer(page, chance)

    return press


def undo(page: Page, chance: Random) -> None:
    shown = page.locator("[data-undo]").last
    shown.click()
    answer(page, chance)


def by_key(*keys: str) -> Callable[[Page, Random], None]:
    """Return what goes to a row of the queue and presses one of these keys."""

    def press(page: Page, chance: Random) -> None:
        one_of(page, "#queue tbody tr", chance).focus()
        page.keyboard.press(chance.choice(keys))
        answer(page, chance)

    return press


def drag(page: Page, chance: Random) -> None:
    """Drag a row of the queue to another place, which takes a while."""
    grips = page.locator("#queue tbody .grip")
    start, end = (grips.nth(chance.randrange(grips.count())) for _ in range(2))
    start.scroll_into_view_if_needed()
    start.hover()
    there = end.bounding_box()
    assert there is not None
    page.mouse.down()
    try:
        page.mouse.move(there["x"] + 5, there["y"] + there["height"] / 2, steps=15)
    finally:
        page.mouse.up()


def untick(page: Page, table: str) -> None:
    while (ticked := page.locator(f"{table} tbody input:checked")).count():
        ticked.first.uncheck()


def several(page: Page, chance: Random) -> None:
    """Tick some rows of the queue, and do one thing with all of them."""
    ticks = page.locator("#queue tbody input[type=checkbox]")
    for place in chance.sample(range(ticks.count()), min(2, ticks.count())):
        ticks.nth(place).check()
    buttons = page.locator("#steer .bar button")
    buttons.nth(chance.randrange(buttons.count())).click()
    answer(page, chance)
    untick(page, "#queue")


def search(page: Page, chance: Random) -> None:
    """Ask for a part of what a page shows, or for all of it."""
    field = page.locator("input[data-search]").first
    field.fill(chance.choice(["", "", "a", "pass", "machine:board-1" if "history" in page.url else "board"]))
    with page.expect_navigation():
        field.press("Enter")
    page.locator("main").wait_for()


def follow(selector: str) -> Callable[[Page, Random], None]:
    """Return what goes to where a link leads."""

    def go(page: Page, chance: Random) -> None:
        with page.expect_navigation():
            one_of(page, selector, chance).click()
        page.locator("main").wait_for()

    return go


def queue_several(page: Page, chance: Random) -> None:
    ticks = page.locator("#templates tbody input[type=checkbox]")
    for tick in ticks.all():
        tick.set_checked(chance.random() < 0.5)
    ticks.first.check()
    page.locator(".bar button").click()
    answer(page, chance)
    untick(page, "#templates")


def note(page: Page, chance: Random) -> None:
    page.locator("#text").fill(f"note {chance.randrange(1000)}")
    page.get_by_role("button", name="Add it").click()
    answer(page, chance)


def override(page: Page, chance: Random) -> None:
    outcomes = page.locator("#outcome option").all_inner_texts()
    page.locator("#outcome").select_option(chance.choice(outcomes))
    page.locator("#reason").fill(chance.choice(REASONS)[:500])
    page.get_by_role("button", name="Override").click()
    answer(page, chance)


def approve(page: Page, chance: Random) -> None:
    page.locator("#labels").fill(chance.choice(LABELS))
    with page.expect_navigation():
        page.locator("button[value=approve]").click()
    page.locator("main").wait_for()


def add_user(page: Page, chance: Random) -> None:
    page.locator("#new-user-name").fill(f"user-{chance.randrange(10**6)}")
    page.get_by_role("button", name="Add the user").click()
    answer(page, chance)


def set_role(page: Page, chance: Random) -> None:
    form = page.locator("tr#user-zed form.with")
    form.locator("select").select_option(chance.choice(["reader", "operator"]))
    form.locator("button").click()
    answer(page, chance)


def make_token(page: Page, chance: Random) -> None:
    page.locator("#label").fill(f"token {chance.randrange(1000)}")
    page.get_by_role("button", name="Make a token").click()
    answer(page, chance)


def edit(page: Page, chance: Random) -> None:
    """Go to where a run that waits is edited, and rename it, unless a machine has it by now."""
    follow(EDITED)(page, chance)
    if page.locator("#f-name").count():
        page.locator("#f-name").fill(f"renamed {chance.randrange(1000)}")
        page.get_by_role("button", name="Save").click()
        answer(page, chance)


EDITED = "#queue td.do a.button"
TO_QUEUE = "main form[action='/runs'], form.write-run, main > p > a.button[href='/queue']"
HALTED = "main .note button[value=go]"

DEEDS = (
    Deed("undo", "[data-undo]", undo),
    Deed("top", "#queue button[name=top]", pressing("#queue button[name=top]")),
    Deed("cancel", "#queue button[name=cancel]", pressing("#queue button[name=cancel]")),
    Deed("move by key", "#queue[data-sortable] tbody tr", by_key("t", "Alt+ArrowUp", "Alt+ArrowDown")),
    Deed("hold by key", "#queue[data-sortable] tbody tr", by_key("h")),
    Deed("cancel by key", "#queue[data-sortable] tbody tr", by_key("c")),
    Deed("drag", "#queue .grip", drag),
    Deed("several", "#queue tbody input[type=checkbox]", several),
    Deed("pause", "button[name=pause]", pressing("button[name=pause]")),
    Deed("resume", "button[name=resume]", pressing("button[name=resume]")),
    Deed("halt", "main .after button[value=stop]", pressing("main .after button[value=stop]")),
    Deed("go on", HALTED, pressing(HALTED)),
    Deed("go on at once", HALTED, pressing(HALTED)),  # twice: while the whole lab is held, little happens
    Deed("queue", "#templates button[name=one]", pressing("#templates button[name=one]")),
    Deed("queue more", "#templates button[name=one]", pressing("#templates button[name=one]")),
    Deed("queue several", "#templates tbody input[type=checkbox]", queue_several),
    Deed("hold machine", "#machines button[name=hold]", pressing("#machines button[name=hold]")),
    Deed("return machine", "#machines button[name=return]", pressing("#machines button[name=return]")),
    Deed("approve", "button[value=approve]", approve, leads=True, empties=("#id", "#labels")),
    Deed("see machine", "#machines tbody th a", follow("#machines tbody th a"), leads=True),
    Deed("see machines", "form[action='/machines'] [name=machine]", follow("a[data-go=m]"), leads=True),
    Deed("see run", "#queue tbody th a", follow("#queue tbody th a"), leads=True),
    Deed("see ended run", "#history tbody th a", follow("#history tbody th a:not(.all)"), leads=True),
    Deed("edit", EDITED, edit, leads=True),
    Deed("see queue", TO_QUEUE, follow("a[data-go=q]"), leads=True),
    Deed("steer run", ".head form[action='/runs'] button", pressing(".head form[action='/runs'] button")),
    Deed("note", "#text", note, empties=("#text",)),
    Deed("override", "#outcome", override, empties=("#reason",)),
    Deed("withdraw", "button[value=withdraw]", pressing("button[value=withdraw]")),
    Deed("search", "input[data-search]", search, leads=True),
    Deed("add user", "#new-user-name", add_user, empties=("#new-user-name",)),
    Deed("set role", "tr#user-zed form.with", set_role),
    Deed("make token", "form[action='/users'] #label", make_token),
    Deed("revoke", "#tokens button[value=revoke]", pressing("#tokens button[value=revoke]")),
)
