"""Two answers side by side, and the choice between them, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from scripted_engine import Gate
from test_chat_page import ask, messages, tab_to

CHOICES = ("A is better", "B is better", "Tie", "Both bad")


def ask_for_two(page: Page, question: str) -> None:
    page.get_by_label("Compare two answers").select_option("every message")
    expect(page.get_by_text("Next: two answers.")).to_be_visible()
    page.get_by_label("Your message").focus()
    ask(page, question)


def side_texts(page: Page) -> list[str]:
    return [page.get_by_role("region", name=name).locator(".text").inner_text() for name in ("Answer A", "Answer B")]


def test_both_sides_stream_and_the_choice_opens_once_both_have_ended_all_by_keyboard(page, gateway):
    first, second = Gate(), Gate()
    gateway.engine.say("Eggs?", ["Boil ", first, "them."], ["Fry ", second, "them."])
    gateway.engine.say("And then?", ["Eat."])
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Compare two answers")).to_be_focused()
    page.keyboard.type("every m")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    ask(page, "Eggs?")
    sides = page.locator(".side .text")
    expect(sides.filter(has_text="Boil")).to_have_text("Boil ")
    expect(sides.filter(has_text="Fry")).to_have_text("Fry ")
    first.set()
    expect(sides.filter(has_text="Boil")).to_have_text("Boil them.")
    for name in CHOICES:
        expect(page.get_by_role("button", name=name)).to_be_disabled()
    assert page.evaluate("document.getElementById('announcer').textContent") == "Two answers are being written."
    second.set()
    for name in CHOICES:
        expect(page.get_by_role("button", name=name)).to_be_enabled()
    expect(page.locator("#announcer")).to_have_text("Both answers are complete. Which do you prefer?")

    kept = side_texts(page)[1]
    tab_to(page, "B is better", back=True)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Thank you! The chat goes on with B.")).to_be_visible()
    assert gateway.votes == ["b"]
    expect(page.locator(".sides > .side .text")).to_have_text(kept)
    expect(page.get_by_text("The other answer")).to_be_visible()

    page.get_by_label("Compare two answers").select_option("never")
    page.get_by_label("Your message").focus()
    ask(page, "And then?")
    expect(page.locator(".answer .text")).to_have_text("Eat.")
    assert messages(gateway.engine.requests[-1]) == [("user", "Eggs?"), ("assistant", kept), ("user", "And then?")]


def test_the_decision_is_timed_from_the_moment_both_answers_had_ended(page, gateway):
    """The browser's clock stands still but for 5 s while the answers are written and 3 s while the person decides."""
    page.clock.install(time=0)
    page.reload()
    rest = Gate()
    gateway.engine.say("Eggs?", ["Boil them."], ["Fry ", rest, "them."])
    ask_for_two(page, "Eggs?")
    expect(page.locator(".side .text").filter(has_text="Fry")).to_have_text("Fry ")
    page.clock.pause_at(60_000)
    rest.set()
    expect(page.get_by_role("button", name="Tie")).to_be_enabled()
    page.clock.fast_forward(3_000)
    page.get_by_role("button", name="Tie").click()
    expect(page.get_by_text("Thank you! A tie")).to_be_visible()
    (fact,) = gateway.feedback
    assert fact.judgement.decision_ms == pytest.approx(3_000, abs=50)


@pytest.mark.parametrize(("button", "value"), [("A is better", "a"), ("Tie", "tie"), ("Both bad", "both_bad")])
def test_every_other_choice_is_recorded_and_keeps_the_first_answer(page, gateway, button, value):
    gateway.engine.say("Eggs?", ["Boil them."], ["Fry them."])
    ask_for_two(page, "Eggs?")
    choice = page.get_by_role("button", name=button)
    expect(choice).to_be_enabled()
    first = side_texts(page)[0]
    choice.click()
    expect(page.get_by_text("Thank you!")).to_be_visible()
    expect(page.locator(".sides > .side .text")).to_have_text(first)
    assert gateway.votes == [value]
    expect(page.get_by_label("Your message")).to_be_focused()


def test_writing_on_without_a_choice_keeps_the_first_answer_and_records_nothing(page, gateway):
    gateway.engine.say("Eggs?", ["Boil them."], ["Fry them."])
    gateway.engine.say("And then?", ["Eat."])
    ask_for_two(page, "Eggs?")
    expect(page.get_by_role("button", name="Tie")).to_be_enabled()
    first = side_texts(page)[0]
    page.get_by_label("Compare two answers").select_option("never")
    page.get_by_label("Your message").focus()
    ask(page, "And then?")
    expect(page.locator(".answer .text")).to_have_text("Eat.")
    assert messages(gateway.engine.requests[-1])[1] == ("assistant", first)
    assert gateway.votes == []


def test_a_choice_that_was_not_recorded_can_be_made_again(page, gateway):
    gateway.engine.say("Eggs?", ["Boil them."], ["Fry them."])
    ask_for_two(page, "Eggs?")
    choice = page.get_by_role("button", name="A is better")
    expect(choice).to_be_enabled()
    page.context.set_offline(True)
    choice.click()
    expect(page.get_by_text("Not saved. The server cannot be reached.")).to_be_visible()
    page.context.set_offline(False)
    choice.click()
    expect(page.get_by_text("Thank you! The chat goes on with A.")).to_be_visible()
    assert gateway.votes == ["a"]


def test_every_third_message_gets_two_answers_unless_said_otherwise_and_the_page_remembers(page, gateway):
    for question in ("1?", "2?", "3?"):
        gateway.engine.say(question, ["Yes."])
    ask(page, "1?")
    expect(page.locator(".answer .thumbs:visible")).to_have_count(1)
    ask(page, "2?")
    expect(page.locator(".answer .thumbs:visible")).to_have_count(2)
    expect(page.get_by_text("Next: two answers.")).to_be_visible()
    ask(page, "3?")
    expect(page.get_by_role("button", name="Both bad")).to_be_enabled()
    expect(page.get_by_text("Next: one answer.")).to_be_visible()
    page.get_by_label("Compare two answers").select_option("never")
    page.reload()
    expect(page.get_by_label("Compare two answers")).to_have_value("0")
