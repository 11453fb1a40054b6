"""The bakery itself, a program of somebody else: `python bakery_outside.py FOLDER` prints its port, then serves.

A loaf brings along what is to become of it: `does`, for each attempt the steps that it goes through, one a look; it
stays in the last. A step is `accepted`, `aside`, `oven-A` or several ovens with a `+` between, `passed: WORDS`,
`failed: WORDS`, or `broken: WORDS`. An oven is cleaned for good after a loaf with `dirty`.

What is asked is written to the file `asked` in the folder, a line each. An answer waits as long as there is a file
`hold-NAME` there: `hold-key` where a loaf is asked for by its key, `hold-sent` where it is sent, `hold-seen` where it
is looked at. What was asked has had its effect by then.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HELD = 60.0  # seconds that an answer waits at most


class Bakery:
    """Loaves and ovens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loaves: dict[str, dict[str, Any]] = {}
        self.ovens: dict[str, bool] = {}
        self.lock = threading.Lock()

    def note(self, what: str) -> None:
        with self.folder.joinpath("asked").open("a") as file:
            file.write(f"{what}\n")

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[str, Any]:
        """What to wait for before it is answered, and the answer; None if there is no such thing."""
        with self.lock:
            _, what, *name = path.split("/")
            if method == "POST":
                self.note(f"sent {body['name']} {body['attempt']}")
                return "hold-sent", self.take(body)
            if what == "ovens":
                return "", self.ovens
            if what == "keys":
                found = next((each for each, loaf in self.loaves.items() if loaf["key"] == name[0]), None)
                if found and method == "DELETE":
                    self.note(f"taken back {self.loaves[found]['name']}")
                else:
                    self.note(f"asked for {name[0].partition('.')[2]}")
                return "hold-key", found and {"id": found}
            loaf = self.loaves[name[0]]
            self.note(f"seen {loaf['name']}")
            return "hold-seen", self.seen(loaf)

    def take(self, body: dict[str, Any]) -> dict[str, str]:
        name = f"loaf-{len(self.loaves) + 1}"
        steps = body["does"][min(body["attempt"], len(body["does"])) - 1]
        self.loaves[name] = {**body, "steps": list(steps), "ovens": []}
        return {"id": name}

    def seen(self, loaf: dict[str, Any]) -> dict[str, Any]:
        steps = loaf["steps"]
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        what, _, says = step.partition(": ")
        if what.startswith("oven"):
            loaf["ovens"] = what.split("+")
            self.ovens |= {oven: self.ovens.get(oven, False) for oven in loaf["ovens"]}
            return {"state": "baking", "ovens": loaf["ovens"]}
        if what in ("passed", "failed"):
            self.ovens |= dict.fromkeys(loaf["ovens"] if loaf.get("dirty") else [], True)
            return {"state": "done", "ovens": loaf["ovens"], "result": what, "says": says}
        return {"state": what, "ovens": [], "says": says}


class Counter(BaseHTTPRequestHandler):
    """Where people ask."""

    bakery: Bakery
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True  # who asked was killed

    def answer(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size) or b"null")
        hold, answer = self.bakery.answer(self.command, self.path, body)
        give_up = time.monotonic() + HELD
        while hold and self.bakery.folder.joinpath(hold).exists() and time.monotonic() < give_up:
            time.sleep(0.01)
        data = json.dumps(answer).encode()
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the standard library's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    Counter.bakery = Bakery(Path(sys.argv[1]))
    with ThreadingHTTPServer(("127.0.0.1", 0), Counter) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
