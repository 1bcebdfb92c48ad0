"""What `/params` reads is checked like an option of the command line."""

import pytest

from tuner.chat.settings import Settings
from tuner.errors import UserError


def test_names_and_values_change_what_they_name() -> None:
    changed = Settings().changed("temperature 0.7 top_p=0.9 max_new_tokens = 12")
    assert changed == Settings(0.7, 0.9, 12)
    assert Settings().changed(str(changed)) == changed, "what is shown can be typed"
    assert changed.changed("") == changed
    assert changed.changed(f"seed {10**400}").seed == 10**400, "more than a float can be"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("temprature 1", "Did you mean 'temperature'"),
        ("temperature", "temperature: '' is not allowed"),
        ("temperature hot", "'hot' is not allowed; give a number"),
        ("temperature -1", "temperature: -1.0 is not allowed; give 0 or more"),
        ("temperature nan", "temperature: nan"),
        ("temperature inf", "temperature: inf"),
        ("top_p 0", "top_p: 0.0"),
        ("top_p 1.5", "top_p: 1.5"),
        ("max_new_tokens 0", "max_new_tokens: 0"),
        ("max_new_tokens 1.5", "give a whole number"),
        ("seed -1", "seed: -1"),
        ("temperature 0.5 seed x", "seed: 'x'"),
    ],
)
def test_what_cannot_be_is_refused_as_a_whole(words: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Settings().changed(words)


def test_each_question_draws_anew_and_the_same_way_in_the_next_chat() -> None:
    assert Settings().sampling(1) is None, "greedy by default, as in a comparison"
    drawn = [Settings(temperature=0.7).sampling(n) for n in (1, 2, 1)]
    assert drawn[0] == drawn[2]
    assert drawn[0] != drawn[1]
    assert Settings(temperature=0.7, seed=1).sampling(1) != drawn[0]
