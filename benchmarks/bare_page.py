"""What `pages.py` measures against: aiohttp and Jinja2 with as many rows from memory, and nothing of ours."""

from __future__ import annotations

import sys

from aiohttp import web
from jinja2 import Environment

PAGE = 50
_TEMPLATE = """
<!doctype html><html lang="en"><meta charset="utf-8"><title>Queue</title>
<body><main><table id="queue"><tbody>
{% for row in rows %}
<tr id="q-{{ row.id }}" tabindex="-1">
<td><input type="checkbox" name="run" value="{{ row.id }}" aria-label="{{ row.name }}"></td>
<td>{{ row.place }}</td><th scope="row"><a href="/runs/{{ row.id }}">{{ row.name }}</a></th><td>{{ row.group }}</td>
<td>{{ row.why }}</td><td><time datetime="{{ row.since }}">{{ row.since }}</time></td><td>{{ row.priority }}</td>
<td>{{ row.who }}</td><td><time datetime="{{ row.since }}">{{ row.since }}</time></td>
<td><button name="top" value="{{ row.id }}">Top</button>
<button name="cancel" value="{{ row.id }}">Cancel</button></td></tr>
{% endfor %}
</tbody></table></main></body></html>
"""


def main(rows: int) -> None:
    """Serve, and print the address."""
    known = [
        {
            "id": f"{n:012x}.{n}",
            "place": n + 1,
            "name": f"host-ubuntu-25.04-{n}.efi",
            "group": f"group-{n % 8}",
            "why": "all machines that fit are busy, and 12 runs go first",
            "since": "2026-11-30T12:00:00Z",
            "priority": "normal",
            "who": "person-1",
        }
        for n in range(rows)
    ]
    template = Environment(autoescape=True).from_string(_TEMPLATE)

    async def answer(request: web.Request) -> web.Response:
        first = int(request.query.get("first", "0"))
        return web.Response(text=template.render(rows=known[first : first + PAGE]), content_type="text/html")

    async def started(_app: web.Application) -> None:
        print("listens", flush=True)

    app = web.Application()
    app.on_startup.append(started)
    app.router.add_get("/queue", answer)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
