"""When GitHub may be asked again."""

from __future__ import annotations

import pytest

from pytest_dispatch.github.rate_limits import limit_wait


@pytest.mark.parametrize(
    ("status", "headers", "message", "seconds"),
    [
        (200, {"retry-after": "5"}, "", None),
        (404, {"retry-after": "5"}, "", None),
        (403, {}, "Resource not accessible", None),
        (403, {}, "You have exceeded a secondary Rate Limit", 60.0),
        (429, {}, "", 60.0),
        (403, {}, "You have triggered an abuse detection mechanism", 60.0),
        (403, {}, "You have been temporarily blocked from content creation", 60.0),
        (422, {}, "Validation Failed was submitted too quickly", 60.0),
        (422, {"retry-after": "5"}, "was submitted too quickly", 5.0),
        (422, {"retry-after": "5"}, "Validation Failed", None),
        (403, {"retry-after": "5"}, "", 5.0),
        (403, {"retry-after": "9" * 30}, "", 604800.0),
        (503, {"retry-after": "5"}, "", 5.0),
        (503, {}, "rate limit", None),
        (
            403,
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1000000090", "date": "Sun, 09 Sep 2001 01:46:40 GMT"},
            "",
            91.0,
        ),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1", "date": "no date"}, "", 1.0),
        *(
            (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1", "date": date}, "", 1.0)
            for date in (f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT", f"Mon, 01 Jan 2024 00:00:00 +{'9' * 20}")
        ),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}, "", 1.0),
        (403, {"x-ratelimit-remaining": "7", "x-ratelimit-reset": "1"}, "", None),
    ],
)
def test_the_headers_say_when_to_ask_again(
    status: int, headers: dict[str, str], message: str, seconds: float | None
) -> None:
    assert limit_wait(status, headers, message) == seconds
