"""A service in whose queue runs wait for a machine that never asks, to steer on its pages."""

from __future__ import annotations

from killable_service import KillableService
from service_bench import PASSWORD

NAMES = ("alpha", "beta", "gamma", "delta")
FILE = """\
server: {{boot: "{host}:8765", api: "{host}:8766", announce: false, allow: [127.0.0.0/8]}}
database: {{url: lab.db}}
sources: {{cache: assets, folders: {{kept: kept}}}}
auth:
  users:
  - {{name: ada, password: {password}, role: admin}}
  - {{name: eve, password: {password}, role: reader}}
machines:
- {{id: rack-1, labels: [quiet], identities: {{addresses: [127.0.0.99]}}}}
cycles:
- {{name: nightly, folder: kept, every: 6h, parameters: {{distro: {{choices: [noble, jammy]}}}}}}
groups:
- id: quiet
  labels: [quiet]
  templates:
"""
TEMPLATE = '  - {{id: {0}, kind: boot, payload: {{media: efi, location: "folder:kept/{0}.efi", size: 16}}}}\n'


class QuietLab(KillableService):
    """One in whose queue four runs wait."""

    def begin(self) -> None:
        (self.folder / "kept").mkdir(parents=True)
        for name in NAMES:
            (self.folder / "kept" / f"{name}.efi").write_bytes(b"M" * 16)
        templates = "".join(TEMPLATE.format(name) for name in NAMES)
        (self.folder / "lab.yaml").write_text(FILE.format(host=self.host, password=PASSWORD) + templates)
        self.start()
        for name in NAMES:
            self.ask("POST", "/groups/quiet/queue", {"template": name})

    def names(self) -> list[str]:
        return [run["name"] for run in self.ask("GET", "/groups/quiet/queue")["runs"]]
