"""Comparisons to rate, and a server that rates them in a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tuner.evaluation.predictions import Prediction, write_predictions
from tuner.rating.store import Store
from tuner.rating.study import Study, draw_study, read_answers, read_rubric

ROOT = Path(__file__).parent.parent
SYSTEMS = ("base-hidden-Quolbax", "lora-hidden-Zimfeld")  # nothing else has such names in it
HOSTILE = [
    "<script>window.broken = 1</script><img src=x onerror='window.broken = 1'>",
    "</div></section></textarea></title><script>window.broken = 1</script>",
    "\" autofocus onfocus='window.broken = 1' x=\"",
    "javascript:alert(1) {{ 7 * 7 }} {% raw %}",
    "left \u202e right \u2066 \u200e \x1b[31mred\x1b[0m \x07 \x00 end",
    "'; DROP TABLE rating; -- \" OR 1=1",
    "\ud800 alone",
    "long " * 60_000,
]


def write_comparison(
    folder: Path,
    *,
    count: int = 6,
    systems: Sequence[str] = SYSTEMS,
    texts: Sequence[str] = (),
    rubric: dict[str, str] | None = None,
) -> Path:
    """Writes predictions of so many examples; `texts` take the places of prompts and answers."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        Prediction(
            system=system, id=f"id{n}", category="c", reference="r", stop_reason="eos",
            new_tokens=1, seconds=0.1, group=f"g{n}",
            prompt=f"<|user|>\nquestion {n}", question=texts[n] if texts else f"question {n}",
            prediction=texts[n] if texts else f"text {n} of {place}",
        )
        for place, system in enumerate(systems)
        for n in range(len(texts) or count)
    ]  # fmt: skip
    write_predictions(folder / "predictions.jsonl", rows)
    if rubric:
        results = json.dumps({"schema": 1, "suite": {"rubric": rubric}})
        (folder / "results.json").write_text(results, encoding="utf-8")
    return folder


def begin(folder: Path, **options: Any) -> tuple[Study, Store]:
    """Begins a study of a comparison."""
    store = Store(folder)
    store.create(draw_study(read_answers(folder), read_rubric(folder), **options))
    study = store.study()
    assert study
    return study, store


SERVER = """
import sys
from pathlib import Path
from tuner.rating.app import build_app
from tuner.rating.store import Store
from tuner.rating.study import read_answers
from tuner.server import address, listen, serve
folder, store = Path(sys.argv[1]), Store(Path(sys.argv[1]))
app = build_app(store.study(), read_answers(folder), store, "127.0.0.1")
taken = listen("127.0.0.1", int(sys.argv[2]))
print(address("127.0.0.1", taken), flush=True)
serve(app, taken)
"""


@dataclass
class Server:
    """A running rating page."""

    process: subprocess.Popen[str]
    url: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def ask(
        self, path: str, fields: dict[str, str] | bytes | None = None, **headers: str
    ) -> tuple[int, str, dict[str, str]]:
        """Status, text and headers of a request; one with fields is a post from the page."""
        connection = http.client.HTTPConnection(self.host, timeout=20)
        body = urlencode(fields) if isinstance(fields, dict) else fields
        own = {"Origin": f"http://{self.host}", "Accept": "application/json"} if body else {}
        sent = {**own, **{key.replace("_", "-"): value for key, value in headers.items()}}
        sent = {key: value for key, value in sent.items() if value}
        connection.request("GET" if body is None else "POST", path, body, sent)
        answer = connection.getresponse()
        found = answer.read().decode()
        connection.close()
        return answer.status, found, {key.lower(): value for key, value in answer.getheaders()}

    def score(self, rater: str, number: int, answer: str, criterion: int, value: int) -> int:
        """Clicks a score; returns the status."""
        fields = {"rater": rater, "kind": "score", "answer": answer}
        fields |= {"criterion": str(criterion), "value": str(value)}
        return self.ask(f"/item/{number}", fields)[0]

    def page(self, number: int, rater: str) -> str:
        status, text, _ = self.ask(f"/item/{number}?rater={quote(rater)}")
        assert status == 200, text
        return text

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def start_server(folder: Path, port: int = 0) -> Server:
    """Starts the page of a study that was begun; the caller stops it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder), str(port)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return Server(process, process.stdout.readline().strip())
