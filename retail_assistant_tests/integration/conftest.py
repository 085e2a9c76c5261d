"""Fixtures of the tests that run real servers and a real browser."""

from retail_assistant_tests.integration.browser import chromium_page, external_requests

__all__ = ["chromium_page", "external_requests"]
