"""Run folders are claimed once and found by name."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tuner.checkpoint import AtomicCheckpointIO
from tuner.errors import UserError
from tuner.hold import Hold
from tuner.runs import (
    claim,
    find_checkpoint,
    find_run,
    read_losses,
    read_record,
    write_record,
)


def make_run(root: Path, name: str, status: str) -> Path:
    folder = claim(root, name)
    write_record(folder, {"status": status})
    (folder / "checkpoints").mkdir()
    return folder


def test_versions_count_up_and_are_never_shared(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: claim(tmp_path, "lora"), range(24)))
    assert {f.name for f in folders} == {f"version_{n}" for n in range(24)}


def test_a_new_version_comes_after_the_highest_even_with_gaps(tmp_path: Path) -> None:
    (tmp_path / "lora" / "version_9").mkdir(parents=True)
    (tmp_path / "lora" / "version_10").mkdir()
    (tmp_path / "lora" / "version_old").mkdir()
    assert claim(tmp_path, "lora").name == "version_11"


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", ".hidden", "a b", "x" * 101])
def test_names_that_are_no_plain_folder_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name"):
        claim(tmp_path / "logs", name)
    assert not (tmp_path / "logs").exists()


def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(UserError, match=r"trainer.default_root_dir: cannot write"):
        claim(tmp_path / "logs", "lora")


def test_a_name_means_its_newest_finished_run(tmp_path: Path) -> None:
    make_run(tmp_path, "lora", "finished")
    wanted = make_run(tmp_path, "lora", "finished")
    stopped = make_run(tmp_path, "lora", "stopped")
    claim(tmp_path, "lora")  # nothing in it yet
    assert find_run("lora", tmp_path) == wanted
    assert find_run(str(stopped), tmp_path) == stopped, "a folder is taken as it is"


def test_what_cannot_be_found_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There are no runs yet"):
        find_run("lora", tmp_path)
    make_run(tmp_path, "lora", "running")
    with pytest.raises(UserError, match=r"Did you mean 'lora'"):
        find_run("loar", tmp_path)
    with pytest.raises(UserError, match="has finished"):
        find_run("lora", tmp_path)
    with pytest.raises(UserError, match="holds no run"):
        find_run(str(tmp_path / "elsewhere"), tmp_path)
    with pytest.raises(UserError, match=r"best\.ckpt"):
        find_checkpoint("best", tmp_path, "lora")


def save(run: Path, *names: str, step: int = 1) -> None:
    for name in names:
        content = {"tuner": {}, "state_dict": {}, "global_step": step}
        AtomicCheckpointIO().save_checkpoint(content, run / "checkpoints" / f"{name}.ckpt")


def test_a_checkpoint_is_that_of_the_newest_run_that_has_one(tmp_path: Path) -> None:
    older = make_run(tmp_path, "lora", "finished")
    save(older, "last", "best")
    newer = make_run(tmp_path, "lora", "stopped")
    save(newer, "last")
    make_run(tmp_path, "lora", "stopped")
    assert find_checkpoint("last", tmp_path, "lora").parent.parent == newer
    assert find_checkpoint("best", tmp_path, "lora").parent.parent == older


def test_a_spoilt_checkpoint_is_passed_over_for_the_newest_whole_one(tmp_path: Path) -> None:
    older, newer = (make_run(tmp_path, "lora", "stopped") for _ in range(2))
    save(older, "last")
    save(newer, "best", step=3)
    save(newer, "previous", step=7)
    save(newer, "last", step=9)
    files = [newer / "checkpoints" / f"{name}.ckpt" for name in ("last", "previous", "best")]
    assert find_checkpoint("last", tmp_path, "lora") == files[0]
    for spoilt, next_one in zip(
        files, [*files[1:], older / "checkpoints" / "last.ckpt"], strict=True
    ):
        spoilt.write_bytes(spoilt.read_bytes()[:-1])
        with pytest.warns(UserWarning, match=rf"{spoilt.name}.*passed over"):
            assert find_checkpoint("last", tmp_path, "lora") == next_one
    (older / "checkpoints" / "last.ckpt").unlink()
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(UserError, match=r"no run named 'lora' in .* has a whole last\.ckpt"),
    ):
        find_checkpoint("last", tmp_path, "lora")


def test_a_record_that_is_cut_off_reads_as_none(tmp_path: Path) -> None:
    write_record(tmp_path, {"status": "finished", "base": "größer"})
    assert read_record(tmp_path) == {"status": "finished", "base": "größer"}
    (tmp_path / "run.json").write_text('{"status": "fin')
    assert read_record(tmp_path) == {}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"], "no part file stays"


def test_losses_are_read_while_they_are_written(tmp_path: Path) -> None:
    assert read_losses(tmp_path) == {"train": [], "val": []}
    file = tmp_path / "metrics.csv"
    file.write_text("step,train_loss,val_loss\r\n9,2.5,\r\n9,,3.25\r\n19,1.")
    assert read_losses(tmp_path) == {"train": [(9, 2.5)], "val": [(9, 3.25)]}
    file.write_text("step,trai")
    assert read_losses(tmp_path) == {"train": [], "val": []}


def test_what_a_killed_run_left_half_written_goes_when_the_next_one_begins(tmp_path: Path) -> None:
    left, held = claim(tmp_path, "run"), claim(tmp_path, "run")
    Hold(left).close()
    kept = ("checkpoints/last.ckpt", ".predictions.jsonl.part")
    for folder in (left, held):
        for name in (".run.json.part", ".adapter.part/weights", "checkpoints/.a.ckpt.part", *kept):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
    holder = "import sys, time; from pathlib import Path; from tuner.hold import Hold; "
    holder += "lock = Hold(Path(sys.argv[1])); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", holder, held], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        before = sorted(held.rglob("*"))
        claim(tmp_path, "run")
        assert sorted(held.rglob("*")) == before, "it is being written"
        other.kill()
    files = {str(file.relative_to(left)) for file in left.rglob("*") if file.is_file()}
    assert files == {".lock", *kept}
