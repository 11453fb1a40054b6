"""Who visits the pages of a service without a browser: what it gets, and what it makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode

from labs import Reply, call
from service_bench import PASSWORD, ServiceBench

APART = {"td", "th", "dt", "dd", "li", "p", "div", "option"}  # elements whose texts do not run together
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Element:
    """An element of a page, with the text in it as far as its first child."""

    name: str
    attributes: dict[str, str]


class SeenPage(HTMLParser):
    """A page as a browser without scripts shows it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.text = ""
        self.areas: dict[str, str] = {}  # texts of fields with several lines, by name
        self.options: dict[int, list[str]] = {}  # texts of what can be picked, by the place of the field in `elements`
        self._in = ""
        self.source = text
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = tag
        if tag in ("select", "datalist"):
            self.options[len(self.elements)] = []
        elif tag == "option" and self.options:  # without a field, it is of a list of proposals
            self.options[max(self.options)].append("")
        elif tag == "textarea":
            self.areas[dict(attrs).get("name") or ""] = ""
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))
        self.text += " " if tag in APART else ""

    def handle_endtag(self, tag: str) -> None:
        self._in = "" if tag == self._in else self._in

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in == "option":
            self.options[max(self.options)][-1] += data
        elif self._in == "textarea":
            name = next(reversed(self.areas))
            self.areas[name] += data if self.areas[name] else data.removeprefix("\n")  # as browsers leave it out

    def all(self, name: str) -> list[dict[str, str]]:
        return [each.attributes for each in self.elements if each.name == name]

    @property
    def links(self) -> list[str]:
        return [each["href"] for each in self.all("a") if "href" in each]

    @property
    def words(self) -> str:
        """Its text, in single blanks."""
        return " ".join(self.text.split())

    def field(self, name: str) -> str:
        """The value of the first field of a form with this name."""
        return next(each["value"] for each in self.all("input") if each.get("name") == name)


@dataclass
class Visitor:
    """Somebody with cookies, or with a token."""

    service: ServiceBench
    token: str = ""
    cookies: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, *, headers: dict[str, str] | None = None, body: bytes = b"") -> Reply:
        own = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        if self.token:
            own["Authorization"] = f"Bearer {self.token}"
        reply = await call(
            self.service.bench.api_port,
            method,
            path,
            source="127.0.0.1",
            headers={**own, **(headers or {})},
            body=body,
        )
        self._keep(reply)
        return reply

    def _keep(self, reply: Reply) -> None:
        given = reply.headers.get("set-cookie", "")
        if given:
            name, _, value = given.partition(";")[0].partition("=")
            self.cookies[name] = value
            if "Max-Age=0" in given:
                del self.cookies[name]

    async def post(self, path: str, *fields: tuple[str, str], **headers: str) -> Reply:
        """Send a form."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("POST", path, headers={"Content-Type": FORM, **given}, body=urlencode(fields).encode())

    async def see(self, path: str) -> SeenPage:
        """A page that is there."""
        reply = await self.ask("GET", path)
        assert reply.status == 200, (path, reply.start, reply.headers.get("location"))
        return SeenPage(reply.text)

    async def submit(self, path: str, *fields: tuple[str, str]) -> Reply:
        """Send a form of ours as it stands on the page `/`."""
        csrf = (await self.see("/")).field("csrf")
        return await self.post(path, ("csrf", csrf), *fields)


async def signed_in(service: ServiceBench, name: str) -> Visitor:
    """A browser whose user has signed in on the page."""
    visitor = Visitor(service)
    reply = await visitor.post("/sign-in", ("name", name), ("password", PASSWORD), ("next", "/"))
    assert reply.status == 303, reply.text
    return visitor
