"""People who walk through the pages of a lab in browsers of their own, and do at random what a page lets them do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from page_deeds import DEEDS, Deed

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

#: Fields into which somebody types a part of a text, and leaves it at that.
HALF_TYPED = ("#named", "#q", "#text", "#new-user-name", "#target", "#f-name")
BLUR = "document.activeElement?.blur()"
#: What a step does, and how often: most steps do something with the lab.
STEPS = {"act": 10, "type": 2, "point": 2, "look": 1}


@dataclass
class Walker:
    """A person with pages open.

    Attributes:
        pages: The pages, each in a tab.
        typed: What the person has typed into fields of each page, and not sent.
        done: How often each deed was done.
        missed: What could not be done, as something had changed under the person's hands.
    """

    name: str
    context: BrowserContext
    chance: Random
    pages: list[Page] = field(default_factory=list)
    typed: dict[Page, dict[str, str]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Open another page."""
        page = self.context.new_page()
        self.pages.append(page)
        self.typed[page] = {}
        page.goto(path)
        page.locator("main").wait_for()
        page.on("framenavigated", lambda _frame: self.typed[page].clear())

    def step(self, *, away: bool) -> None:
        """Do something on one of the pages.

        Args:
            away: There is no lab now that could answer: nothing leads to another address.
        """
        from playwright.sync_api import Error

        page = self.chance.choice(self.pages)
        page.bring_to_front()
        [what] = self.chance.choices([*STEPS], [*STEPS.values()])
        try:
            what = _DO[what](self, page, away)
        except Error as error:
            why = [line.strip(" -") for line in error.message.splitlines() if "intercepts" in line]
            self.missed.append(f"{page.url}: {what}: {error.message.splitlines()[0]} {'; '.join({*why})}")
        else:
            self.done[what] += 1
        _leave_question(page)

    def act(self, page: Page, away: bool) -> str:
        """Do one of the deeds that the page offers; returns its name. Where there is none, point at something."""
        offered = [deed for deed in DEEDS if deed.is_offered(page) and not (away and deed.leads)]
        if not offered:
            return self.point(page, away)
        deed: Deed = self.chance.choice(offered)
        if not deed.is_undo:
            page.evaluate("document.querySelectorAll('#notes .note > button.bare').forEach((each) => each.click())")
        for each in deed.empties:
            self.typed[page].pop(each, None)
        deed.do(page, self.chance)
        return deed.name

    def type(self, page: Page, _away: bool) -> str:
        """Type a part of a text into a field."""
        fields = [each for each in HALF_TYPED if page.locator(each).count()]
        if not fields:
            return self.point(page, _away)
        one = self.chance.choice(fields)
        text = f"half {self.chance.randrange(1000)}"
        page.locator(one).fill(text)
        self.typed[page][one] = text
        return "typed"

    def point(self, page: Page, _away: bool) -> str:
        """Point at a row of a table, or have the focus go there, and stay."""
        rows = page.locator("tbody tr:visible")
        if count := rows.count():
            row = rows.nth(self.chance.randrange(count))
            row.scroll_into_view_if_needed()
            row.hover()
        page.evaluate(BLUR)  # else keys go on with what is typed
        page.keyboard.press(self.chance.choice(["j", "k", "j", "Tab"]))
        return "pointed"

    def look(self, page: Page, _away: bool) -> str:
        """Open what can be opened in place, or read which keys there are."""
        if self.chance.random() < 0.5:
            page.evaluate(BLUR)
            page.keyboard.press("?")
            page.locator("#ask[open]").wait_for()
            return "keys"
        folded = page.locator("main details summary:visible, #menu summary")
        folded.nth(self.chance.randrange(folded.count())).click()
        return "opened"

    def rest(self) -> None:
        """Take the hand from the mouse and the keyboard."""
        for page in self.pages:
            page.mouse.move(2, 2)
            page.evaluate(BLUR)


_DO: dict[str, Callable[[Walker, Page, bool], str]] = {
    "act": Walker.act,
    "type": Walker.type,
    "point": Walker.point,
    "look": Walker.look,
}


def _leave_question(page: Page) -> None:
    """Leave what is still asked unanswered."""
    page.evaluate("document.getElementById('ask')?.close()")
