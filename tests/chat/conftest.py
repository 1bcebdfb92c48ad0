from __future__ import annotations

from collections.abc import Iterator

import pytest
from chatting import Page, open_page


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_page(tmp_path_factory.mktemp("kept")) as page:
        yield page


@pytest.fixture
def page(running: Page) -> Page:
    """The page, with no transcripts, and a speaker that has said nothing."""
    for file in running.folder.glob("*.jsonl"):
        file.unlink()
    speaker = running.speaker
    speaker.asked.clear()
    speaker.stopped = 0
    speaker.may.set()
    speaker.replies = {"base": "I am the base", "lora": "I am the run"}
    return running
