"""What is too much at a time is done with less at a time."""

from __future__ import annotations

import pytest
import torch

from tuner.out_of_memory import with_fewer_rows


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_rows_are_halved_until_they_fit(error: Exception) -> None:
    tried: list[int] = []

    def work(rows: int) -> str:
        tried.append(rows)
        if rows > 3:
            raise error
        return "done"

    with pytest.warns(UserWarning, match="out of memory with 12 rows together; trying 6"):
        assert with_fewer_rows(work, 12) == "done"
    assert tried == [12, 6, 3]


def test_one_row_too_much_and_other_errors_are_raised() -> None:
    tried: list[int] = []

    def work(rows: int) -> None:
        tried.append(rows)
        raise MemoryError

    with pytest.raises(MemoryError), pytest.warns(UserWarning, match="trying 1"):
        with_fewer_rows(work, 2)
    assert tried == [2, 1]
    with pytest.raises(RuntimeError, match="shape"):
        with_fewer_rows(lambda _: (_ for _ in ()).throw(RuntimeError("shape")), 8)
