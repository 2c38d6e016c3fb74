"""``/docs`` in a real Chromium: the vendored Swagger UI under a strict policy, from this server alone."""

from __future__ import annotations

import httpx
from conftest import Gateway, watch
from playwright.sync_api import Browser, Page

ROUTES = (
    *("/v1/chat/completions", "/v1/feedback", "/v1/models", "/v1/models/{model}", "/healthz", "/readyz", "/metrics"),
    *("/v1/label/streams", "/v1/label/next", "/v1/label/{task}"),
)

VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(event.violatedDirective + event.blockedURI));
"""


def opened(browser: Browser, gateway: Gateway) -> tuple[Page, list[str]]:
    page = browser.new_context().new_page()
    page.set_default_timeout(15_000)
    page.add_init_script(VIOLATIONS)
    offences = watch(page, gateway.url)
    page.goto(f"{gateway.url}/docs")
    page.locator(".opblock").first.wait_for()
    return page, offences


def test_the_page_lists_every_operation_and_breaks_no_rule(browser: Browser, gateway: Gateway):
    page, offences = opened(browser, gateway)
    try:
        shown = [text.replace("\u200b", "") for text in page.locator(".opblock-summary-path").all_inner_texts()]
        assert sorted(shown) == sorted(ROUTES)
        page.locator(".opblock-summary", has_text="/v1/chat/completions").first.click()
        page.get_by_text("One answer or several, plain or streamed").first.wait_for()
        page.locator(".opblock-body .responses-table").first.wait_for()
        page.locator(".model-container", has_text="ChatRequest").first.click()
        assert page.evaluate("window.violations") == []
        assert offences == []
    finally:
        page.context.close()


def test_what_is_not_on_the_page_is_not_served_and_nothing_inline_is_allowed(gateway: Gateway):
    page = httpx.get(f"{gateway.url}/docs")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    for name in ("swagger-ui.js", "index.html", "..%2fapi_answers.py"):
        assert httpx.get(f"{gateway.url}/docs/{name}").status_code == 404
