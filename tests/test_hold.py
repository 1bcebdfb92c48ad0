"""A folder is written to by one process, and not once it was removed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.errors import UserError
from tuner.hold import Hold
from tuner.runs import claim

HOLDER = """
import sys, time
from pathlib import Path
from tuner.hold import Hold
lock = Hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_run_is_held_by_one_process_until_it_ends(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    with other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is training this run"):
            Hold(tmp_path)
        other.kill()
    Hold(tmp_path).close()


def test_a_folder_that_was_removed_is_not_written_to_again(tmp_path: Path) -> None:
    folder = claim(tmp_path, "lora")
    mine = Hold(folder)
    mine.check()
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="was removed while it was being written"):
        mine.check()
    assert claim(tmp_path, "lora") == folder, "the name is free again"
    other = Hold(folder)
    with pytest.raises(UserError, match="was removed while it was being written"):
        mine.check()
    other.check()
