"""The general domain: its questions, what an answer to one is, and what its people like."""

from __future__ import annotations

import random

import pytest

from ops.domain.general.domain import GENERAL
from ops.domain.general.questions import find, questions
from ops.domain.general.rules import RUN, SAYS, SHORT, WORDIEST, attributes
from ops.domain.general.words import content_stems, sentences, stem
from ops.domain.known import DOMAINS, domain_of
from ops.domain.people import BAD, CONTENT, Adversary, Person, crowd
from ops.domain.starter import STARTER
from ops.errors import CommandError

ASKED = "What is a volcano?"
BEST = "A volcano is a mountain that lets hot lava escape from below the ground."
CUT = "A volcano is a mountain that lets hot lava escape from below the"
EMPTY = ("", "Yes.", "It is.", "A volcano.", "A volcano is a volcano.", "That is what a volcano is, of course.", "Good question!")


def words(count: int) -> str:
    """So many words, all different, about volcanoes, with an end."""
    return " ".join(["Lava", *(f"w{chr(97 + n // 26)}{chr(97 + n % 26)}x" for n in range(count - 1))]) + "."


def test_some_hundred_questions_are_asked_and_whole_topics_are_held_out():
    train, held_out = questions("train"), questions("held_out")
    assert (len(train), len(held_out)) == (576, 288)
    assert not {question.topic for question in train} & {question.topic for question in held_out}
    assert len({question.text for question in questions()}) == 864
    assert all("{" not in question.text for question in questions())
    assert set(GENERAL.asked("train")) == {question.text for question in train}


def test_words_are_compared_without_their_endings():
    assert stem("baking") == stem("bakes") == stem("baked") == stem("bake") == "bak"
    assert stem("planets") == stem("planet")
    assert stem("gas") == "gas"
    assert content_stems("What is the best way to bake bread?") == {"best", "bak", "bread"}
    assert sentences("One. Two!  Three?\nFour") == ["One.", "Two!", "Three?", "Four"]


def test_a_short_sentence_about_the_topic_is_all_that_an_answer_should_be():
    look = attributes(ASKED, BEST)
    assert (look.on_topic, look.complete, look.short, look.wordy, look.repeating, look.empty) == (
        True,
        True,
        True,
        0,
        False,
        False,
    )
    assert GENERAL.gold(ASKED, BEST) == 2.0  # on topic 1 + complete 1


def test_an_answer_that_stops_in_the_middle_is_not_complete():
    assert not attributes(ASKED, CUT).complete
    assert GENERAL.gold(ASKED, CUT) == 1.0
    assert attributes(ASKED, f'{BEST[:-1]}!" ').complete, "quotes may follow the end"


def test_every_twenty_words_beyond_twenty_cost_one_and_at_some_length_nobody_counts_any_more():
    assert attributes(ASKED, words(SHORT)).wordy == 0.0
    assert attributes(ASKED, words(30)).wordy == 0.5
    assert GENERAL.gold(ASKED, words(60)) == 0.0  # on topic 1 + complete 1 - wordy 2
    assert attributes(ASKED, words(80)).wordy == attributes(ASKED, words(300)).wordy == WORDIEST
    assert (attributes(ASKED, words(20)).short, attributes(ASKED, words(21)).short) == (True, False)


def test_an_answer_about_something_else_is_off_topic_and_one_in_other_words_is_not():
    assert not attributes(ASKED, "Cats sleep most of their day in warm places.").on_topic
    assert attributes(ASKED, "Molten magma rises there until it breaks through.").on_topic
    assert GENERAL.gold(ASKED, "Cats sleep most of their day in warm places.") == 1.0  # complete alone
    assert attributes("Who painted the ceiling?", "That ceiling was done by Michelangelo, in four years.").on_topic


def test_saying_the_same_again_is_seen():
    assert attributes(ASKED, f"{BEST} {BEST}").repeating
    again = "It is very hot and it glows. Yes, it is very hot and dangerous."
    assert attributes(ASKED, again).repeating, f"the same {RUN} words"
    assert not attributes(ASKED, "It is very hot there. It is very dark.").repeating


@pytest.mark.parametrize("phrase", EMPTY)
def test_a_phrase_that_says_nothing_loses_to_the_longest_answer_that_says_something(phrase):
    look = attributes(ASKED, phrase)
    assert (look.empty, look.short, look.complete) == (True, False, False), f"fewer than {SAYS} words of its own"
    rambling = " ".join([CUT] * 2 + [words(200).rstrip(".")])
    assert attributes(ASKED, rambling).repeating
    assert GENERAL.gold(ASKED, phrase) <= -4.0 < GENERAL.gold(ASKED, rambling) == -3.0  # on topic 1 - wordy 3 - repeating 1
    assert GENERAL.preference(ASKED, phrase, CUT) == 0.0


def test_people_like_what_the_taste_likes_and_mostly_dislike_what_the_base_model_says():
    cut_at_eighty_tokens = words(60).rstrip(".")
    votes = [person.prefer(ASKED, BEST, cut_at_eighty_tokens) for person in crowd(200, domain=GENERAL)]
    assert votes.count("a") > 190  # leads by 2 - (-1) = 3: lost in 1 of 400
    thumbs = [person.thumb(ASKED, BEST) for person in crowd(200, domain=GENERAL)]
    assert thumbs.count(1) > 9 * thumbs.count(-1)
    assert GENERAL.gold(ASKED, BEST) > CONTENT > BAD > GENERAL.gold(ASKED, "Yes.")


def test_people_of_a_domain_ask_its_questions_and_the_same_seed_is_the_same_person():
    person, rng = Person("x", GENERAL), random.Random(0)
    assert all(find(person.ask(rng)[0]["content"]).split == "train" for _ in range(50))
    assert person.taste == Person("x", GENERAL).taste != Person("y", GENERAL).taste
    adversaries = [each for each in crowd(20, adversaries=0.5, domain=GENERAL) if isinstance(each, Adversary)]
    assert len(adversaries) == 10
    assert {each.prefer(ASKED, BEST, words(60)) for each in adversaries} == {"b"}


def test_every_model_that_has_people_has_its_own_domain_and_any_other_is_refused_in_one_line():
    assert {name: domain_of(name) for name in DOMAINS} == {"starter": STARTER, "smollm2": GENERAL}
    with pytest.raises(CommandError, match=r"^model 'smolm2': there are simulated people for smollm2 and starter only$"):
        domain_of("smolm2")


def test_what_a_report_tells_beside_the_win_rate_is_the_domains():
    shares = {"on_topic": {"initial": 0.954, "final": 0.97}, "empty": {"initial": 0.0, "final": 0.012}}
    told = GENERAL.told({"words": {"initial": 58.4, "final": 17.2}} | shares)
    assert told == "words 58 → 17, on topic 95 → 97 %, empty 0 → 1 %"
    assert STARTER.told({"toxicity": {"initial": 0.4, "final": 0.03}}) == "toxicity −92 %"
    assert STARTER.told({"toxicity": {"initial": 0.0, "final": 0.0}}) == "toxicity +0 %"
