"""One key for the spellings of one question: colloquial, misspelt, polite and rude variants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

WRITTEN_OUT = {
    "aint": "am not", "arent": "are not", "cannot": "can not", "cant": "can not",
    "couldnt": "could not", "didnt": "did not", "doesnt": "does not", "dont": "do not",
    "gonna": "going to", "gotta": "have to", "havent": "have not", "id": "i would", "im": "i am",
    "info": "information", "isnt": "is not", "ive": "i have", "pwd": "password", "u": "you",
    "ur": "your", "wanna": "want to", "whats": "what is", "wheres": "where is", "wont": "will not",
    "ya": "you", "canceling": "cancelling", "canceled": "cancelled", "signup": "sign up",
}  # fmt: skip
# Politeness and swearing change the tone of a question, not what it asks.
_TONE = "please pls kindly thanks thank damn damned goddamn bloody fucking freaking shitty"
TONE = frozenset(_TONE.split())
# What customers ask a shop about, and the commonest words between: what misspellings are mended to.
_WORDS = """
a about accept access account acquire address afford after against agent ago all allow already
also am an and another answer any anyone are arrival arrive article as ask assistance assistant at
available awful back be been before bill billing bought business buy by call can cancel
cancellation case change charge check choose chosen circumstance claim close code comment company
compensation complaint consumer contact corporate correct could country create current customer
cut damaged date daughter decline delete deliver delivery demand details did different direct do
does dollar don download early earn edit email enter error estimated eta expect experience father
fee feedback few fiance file find first for forgotten free freemium from get give go going got
guarantee had happy has have hear help hours how human i if in include inform information into
invoice is issue it item key know later leave like locate lodge long look lost made mail make many
me method mistake modalities modification modify money month more my name need never new
newsletter no not notify number obtain of offer on one online only open operator opinion option or
order organization other our over package parcel password pay payment penalty period person
personal phone pin place platinum policy possible premium price pro problem process product
profile purchase question quick reach rebate receive reclamation recover refund regarding register
registration reimbursement remember removal remove report representative request reset restitution
restore retrieval retrieve return review right secondary see send service set several ship
shipment shipping should show sign situation so solve some somebody someone soon speak standard
start status stolen stop store submit subscribe subscription such support swap switch talk tell
termination terrible than that the their there these they this time to touch track transfer
trouble try twice two type under understand unsubscribe until up update upgrade use user using
usually valid verify very view want was we website were what when where which who why wife will
with withdrawal work would write wrong you your
"""
WORDS = frozenset(_WORDS.split())
ENDINGS = ("s", "es", "d", "ed", "ing", "ting", "ping", "ling", "led")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHORT = 3  # letters up to which a word is too short to be parted or to lose one


def phrasing(text: str) -> str:
    """The words of a question, mended and in alphabetical order, each once.

    Case, punctuation, digits and word order are left out, contractions written out, politeness and
    swearing dropped, words run together parted, and a word that is one letter or one swap of
    neighbours away from a common word of customer support becomes that word. It depends on nothing
    but the text.
    """
    words = re.findall("[a-z]+", re.sub("['\N{RIGHT SINGLE QUOTATION MARK}]", "", text.lower()))
    mended = (part for word in words for part in _mended(word))
    whole = " ".join(WRITTEN_OUT.get(word, word) for word in mended)
    return " ".join(sorted(set(whole.split()) - TONE))


def _known(word: str) -> bool:
    """Whether a word, or what it is formed from, is in one of the tables."""
    if word in WORDS or word in WRITTEN_OUT or word in TONE:
        return True
    stems = [word.removesuffix(ending) for ending in ENDINGS if word.endswith(ending)]
    return any(len(stem) > 1 and (stem in WORDS or stem + "e" in WORDS) for stem in stems)


@lru_cache(maxsize=100_000)
def _mended(word: str) -> list[str]:
    """The word itself where it is known or beyond repair, else what it was meant to be."""
    if _known(word):
        return [word]
    for cut in range(1, len(word)):
        if _known(word[:cut]) and _known(word[cut:]) and len(word) > SHORT:
            return [word[:cut], word[cut:]]
    near = filter(_known, _one_edit_away(word))
    return [min(near, key=lambda found: (found not in WORDS, found), default=word)]


def _one_edit_away(word: str) -> Iterator[str]:
    """Every string that one missing, extra, wrong or swapped letter could have turned into `word`.

    The optimal string alignment distance of 1 (Damerau 1964).
    """
    for cut in range(len(word) + 1):
        head, tail = word[:cut], word[cut:]
        if tail and len(word) > SHORT:
            yield head + tail[1:]
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]
        for letter in LETTERS:
            yield head + letter + tail
            if tail:
                yield head + letter + tail[1:]
