"""What assistive technology, small screens and big fingers get: axe-core (WCAG 2.2 A and AA, and best practice) and measures."""

from __future__ import annotations

from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Page, expect
from test_chat_page import ask
from test_pair_page import ask_for_two

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "viewport": {"width": 320, "height": 640}},
}


def violations(page: Page) -> list[str]:
    page.evaluate(AXE)
    found = page.evaluate("axe.run().then(result => result.violations)")
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found for node in rule["nodes"]]


def small_targets(page: Page) -> list[str]:
    """Visible controls smaller than 24 × 24 CSS pixels (WCAG 2.2, 2.5.8)."""
    controls = page.locator("button:visible, select:visible, textarea:visible, summary:visible").all()
    boxes = [(control, control.bounding_box()) for control in controls]
    return [control.inner_text() for control, box in boxes if min(box["width"], box["height"]) < 24]


@pytest.mark.parametrize("page", LOOKS.values(), ids=LOOKS, indirect=True)
def test_every_state_of_the_page_passes_axe_and_fits_its_screen(page, gateway):
    gateway.engine.say("Hello?", ["Hello. " * 20])
    gateway.engine.say("Eggs?", ["Boil them. " * 20], ["Fry" * 60])
    seen = {"empty": violations(page)}
    ask(page, "Hello?")
    page.get_by_role("button", name="Good answer").click()
    expect(page.get_by_text("Thank you!")).to_be_visible()
    seen["rated"] = violations(page)
    ask_for_two(page, "Eggs?")
    expect(page.get_by_role("button", name="Tie")).to_be_enabled()
    seen["pair"] = violations(page)
    small = small_targets(page)
    page.get_by_role("button", name="Tie").click()
    page.get_by_text("The other answer").click()
    page.get_by_label("Your message").focus()
    gateway.engine.down = True
    ask(page, "Hello?")
    page.get_by_role("alert").wait_for()
    seen["choice and error"] = violations(page)
    assert seen == {"empty": [], "rated": [], "pair": [], "choice and error": []}
    assert small + small_targets(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
