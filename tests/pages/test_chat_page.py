"""Chatting and rating, by keyboard, in a real browser."""

from __future__ import annotations

from playwright.sync_api import Page, expect
from scripted_engine import Break, Gate


def ask(page: Page, question: str) -> None:
    """Type into the message box, which has the focus, and press Enter."""
    expect(page.get_by_label("Your message")).to_be_focused()
    page.keyboard.type(question)
    page.keyboard.press("Enter")


def tab_to(page: Page, name: str, *, back: bool = False, presses: int = 12) -> None:
    """Move the focus by Tab alone to the nearest button of that accessible name."""
    for _ in range(presses):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        focused = page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.trim()")
        if focused == name:
            return
    raise AssertionError(f"{name!r} was not reached within {presses} presses")


def messages(request: dict) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in request["messages"]]


def test_an_answer_appears_piece_by_piece_and_a_thumb_is_given_and_taken_back_by_keyboard_alone(page, gateway):
    rest = Gate()
    gateway.engine.say("Hello?", ["Hello ", rest, "to you."])
    ask(page, "Hello?")
    answer = page.locator(".answer .text")
    expect(answer).to_have_text("Hello ")
    expect(page.get_by_role("button", name="Good answer")).to_have_count(0)
    rest.set()
    expect(answer).to_have_text("Hello to you.")

    tab_to(page, "Good answer", back=True)
    thumb = page.get_by_role("button", name="Good answer")
    expect(thumb).to_be_focused()
    outline = thumb.evaluate("element => getComputedStyle(element).outlineStyle + getComputedStyle(element).outlineWidth")
    assert outline == "solid3px"
    page.keyboard.press("Enter")
    expect(thumb).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("status").filter(has_text="Thank you!")).to_be_visible()
    assert gateway.votes == [1]

    page.keyboard.press("Space")
    expect(thumb).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_role("status").filter(has_text="Rating removed.")).to_be_visible()
    assert gateway.votes == [1, "retracted"]


def test_a_changed_thumb_replaces_the_other(page, gateway):
    gateway.engine.say("Hello?", ["Hello."])
    ask(page, "Hello?")
    good, bad = page.get_by_role("button", name="Good answer"), page.get_by_role("button", name="Bad answer")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    bad.click()
    expect(bad).to_have_attribute("aria-pressed", "true")
    expect(good).to_have_attribute("aria-pressed", "false")
    assert gateway.votes == [1, -1]


def test_feedback_goes_out_with_the_receipt_alone_and_chat_with_the_session(page, gateway):
    gateway.engine.say("Hello?", ["Hello."])
    with page.expect_request("**/v1/chat/completions") as chat:
        ask(page, "Hello?")
    with page.expect_request("**/v1/feedback") as feedback:
        page.get_by_role("button", name="Good answer").click()
    assert "plaudit_session=" in chat.value.all_headers()["cookie"]
    assert page.evaluate("document.cookie") == ""
    assert not {"cookie", "authorization"} & set(feedback.value.all_headers())
    assert set(feedback.value.post_data_json) == {"type", "value", "receipt", "completion_id"}
    expect(page.get_by_text("Thank you!")).to_be_visible()
    (fact,) = gateway.feedback
    assert fact.target.completion_ids == (feedback.value.post_data_json["completion_id"],)


def test_a_thumb_that_was_not_recorded_is_not_shown_as_given(page, gateway):
    gateway.engine.say("Hello?", ["Hello."])
    ask(page, "Hello?")
    thumb = page.get_by_role("button", name="Good answer")
    thumb.wait_for()
    page.context.set_offline(True)
    thumb.click()
    expect(page.get_by_text("Not saved. The server cannot be reached.")).to_be_visible()
    expect(thumb).to_have_attribute("aria-pressed", "false")
    page.context.set_offline(False)
    thumb.click()
    expect(thumb).to_have_attribute("aria-pressed", "true")


def test_a_conversation_is_remembered_under_one_id_until_a_new_one_begins(page, gateway):
    headers = []
    page.on(
        "request", lambda request: headers.append(request.headers.get("x-plaudit-conversation")) if request.post_data else None
    )
    gateway.engine.say("One?", ["First."])
    gateway.engine.say("Two?", ["Second."])
    ask(page, "One?")
    expect(page.locator(".thumbs:visible")).to_have_count(1)
    ask(page, "Two?")
    expect(page.locator(".thumbs:visible")).to_have_count(2)
    assert messages(gateway.engine.requests[1]) == [("user", "One?"), ("assistant", "First."), ("user", "Two?")]

    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".answer, .question")).to_have_count(0)
    page.get_by_label("Compare two answers").select_option("never")
    page.get_by_label("Your message").focus()
    ask(page, "One?")
    expect(page.locator(".thumbs:visible")).to_have_count(1)
    assert messages(gateway.engine.requests[2]) == [("user", "One?")]
    assert headers[0] == headers[1] != headers[2]
    assert all(headers)


def test_escape_stops_an_answer_and_frees_the_engine(page, gateway):
    gateway.engine.say("Go on?", ["On and ", Gate(), "never shown"])
    gateway.engine.say("And?", ["Done."])
    ask(page, "Go on?")
    expect(page.locator(".answer .text")).to_have_text("On and ")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".remark:visible")).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.locator(".thumbs:visible")).to_have_count(0)
    assert gateway.engine.aborted.wait(10), "the engine goes on writing"
    ask(page, "And?")
    expect(page.locator(".answer .text").nth(1)).to_have_text("Done.")
    assert messages(gateway.engine.requests[1]) == [("user", "Go on?"), ("assistant", "On and "), ("user", "And?")]


def test_shift_enter_writes_a_new_line_and_an_empty_message_is_not_sent(page, gateway):
    gateway.engine.say("a\nb", ["Two lines."])
    page.keyboard.press("Enter")
    page.keyboard.type("a")
    page.keyboard.press("Shift+Enter")
    ask(page, "b")
    expect(page.locator(".answer .text")).to_have_text("Two lines.")
    assert [messages(request) for request in gateway.engine.requests] == [[("user", "a\nb")]]


def test_while_the_engine_restarts_the_page_says_so_and_a_retry_answers(page, gateway):
    gateway.engine.say("Hello?", ["Hello."])
    gateway.engine.down = True
    ask(page, "Hello?")
    expect(page.get_by_role("alert")).to_contain_text("The model is not ready")
    gateway.engine.down = False
    tab_to(page, "Try again", back=True)
    page.keyboard.press("Enter")
    expect(page.locator(".answer .text")).to_have_text("Hello.")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator(".question")).to_have_count(1)
    assert messages(gateway.engine.requests[0]) == [("user", "Hello?")]


def test_a_message_without_an_answer_stays_out_of_the_conversation_when_its_author_writes_on(page, gateway):
    gateway.engine.say("And now?", ["Now."])
    gateway.engine.down = True
    ask(page, "Hello?")
    page.get_by_role("alert").wait_for()
    gateway.engine.down = False
    ask(page, "And now?")
    expect(page.locator(".answer .text")).to_have_text("Now.")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_text("Not answered.")).to_be_visible()
    assert messages(gateway.engine.requests[0]) == [("user", "And now?")]
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_text("Ask something.")).to_be_visible()
    expect(page.get_by_text("Not answered.")).to_have_count(0)


def test_an_answer_that_breaks_off_can_be_asked_for_again_and_leaves_nothing_behind(page, gateway):
    gateway.engine.say("Hello?", ["Hel", Break()], ["Hello."])
    ask(page, "Hello?")
    expect(page.get_by_role("alert")).to_contain_text("The answer broke off")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".answer .text")).to_have_text("Hello.")
    assert messages(gateway.engine.requests[-1]) == [("user", "Hello?")]


def test_too_many_requests_are_explained_with_the_time_to_wait(page, gateway):
    refusal = {"status": 429, "headers": {"retry-after": "7"}, "json": {"error": {"message": "slow down"}}}
    page.route("**/v1/chat/completions", lambda route: route.fulfill(**refusal))
    ask(page, "Hello?")
    expect(page.get_by_role("alert")).to_contain_text("Wait 7 seconds")


def test_what_the_server_refuses_is_shown_in_its_own_words_without_a_retry(page, gateway):
    refusal = {"status": 400, "json": {"error": {"message": "messages: too many. Start a new chat."}}}
    page.route("**/v1/chat/completions", lambda route: route.fulfill(**refusal))
    ask(page, "Hello?")
    expect(page.get_by_role("alert")).to_have_text("messages: too many. Start a new chat.")


def test_a_lost_session_is_explained_and_a_reload_brings_a_new_one(page, gateway):
    gateway.engine.say("Hello?", ["Hello."])
    page.context.clear_cookies()
    ask(page, "Hello?")
    expect(page.get_by_role("alert")).to_contain_text("This page's session has ended")
    page.get_by_role("button", name="Reload").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    ask(page, "Hello?")
    expect(page.locator(".answer .text")).to_have_text("Hello.")


def test_a_network_failure_is_told_in_plain_words(page, gateway):
    page.context.set_offline(True)
    ask(page, "Hello?")
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
    page.context.set_offline(False)


def test_the_page_follows_a_growing_answer_unless_its_reader_has_scrolled_away(page, gateway):
    more = Gate()
    gateway.engine.say("Long?", ["line\n" * 60, "first", more, "line\n" * 60, "second"])
    ask(page, "Long?")
    text = page.locator(".answer .text")
    expect(text).to_contain_text("first")
    page_is = "(({ scrollHeight, scrollTop, clientHeight }) => [scrollTop, scrollHeight - scrollTop - clientHeight])"
    top, below = page.evaluate(f"{page_is}(document.scrollingElement)")
    assert top > 500
    assert below < 2
    page.evaluate("document.scrollingElement.scrollTop = 100")
    more.set()
    expect(text).to_contain_text("second")
    assert page.evaluate("document.scrollingElement.scrollTop") == 100


def test_markup_and_scripts_from_the_model_stay_text(page, gateway):
    payload = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script><a href='javascript:1'>x</a>"
    gateway.engine.say("Attack?", [payload])
    gateway.engine.say(payload, [payload])
    ask(page, "Attack?")
    expect(page.locator(".answer .text")).to_have_text(payload)
    ask(page, payload)
    expect(page.locator(".answer .text").nth(1)).to_have_text(payload)
    assert page.title() == "Plaudit chat"
    assert page.locator("#conversation :is(img, script, a)").count() == 0


def test_server_sent_events_are_read_whole_however_the_bytes_arrive(page):
    stream = ': hello\r\ndata: {"a": "é"}\r\n\r\ndata:one\r\ndata: two\nid: 7\n\ndata\r\rdata: cut off'
    read = """async ([text, size]) => {
        const { eventData } = await import('/static/sse.js');
        const bytes = new TextEncoder().encode(text);
        const body = new ReadableStream({ start(controller) {
            for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
            controller.close();
        }});
        const events = [];
        for await (const data of eventData(body)) events.push(data);
        return events;
    }"""
    for size in (1, 2, 3, 7, 1000):
        assert page.evaluate(read, [stream, size]) == ['{"a": "é"}', "one\ntwo", ""], f"in pieces of {size} bytes"
