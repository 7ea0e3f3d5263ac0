"""The page without a browser: its references exist, it asks only what the contract has, it can be read aloud."""

import re
import unittest
from html.parser import HTMLParser
from pathlib import Path

STATIC = Path(__file__).parent.parent / "app" / "static"
CONTRACT = {("GET", "/api/todos"), ("POST", "/api/todos"), ("PATCH", "/api/todos/{id}"), ("DELETE", "/api/todos/{id}")}


class Page(HTMLParser):
    """Every element of the page as (tag, attributes), in order, and the tags that were never closed."""

    VOID = {"meta", "link", "input"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


class PageTest(unittest.TestCase):
    def setUp(self) -> None:
        self.text = (STATIC / "index.html").read_text(encoding="utf-8")
        self.script = (STATIC / "app.js").read_text(encoding="utf-8")
        self.style = (STATIC / "style.css").read_text(encoding="utf-8")
        self.page = Page(self.text)

    def test_the_page_is_whole_and_says_its_language_and_title(self) -> None:
        self.assertEqual(self.page.open, [])
        self.assertEqual(self.page.all("html")[0]["lang"], "en")
        self.assertIn("<title>To do</title>", self.text)

    def test_every_file_the_page_refers_to_exists(self) -> None:
        places = [link["href"] for link in self.page.all("link")] + [
            script["src"] for script in self.page.all("script")
        ]
        files = [place for place in places if not place.startswith("data:")]
        self.assertEqual(files, ["/static/style.css", "/static/app.js"])
        for place in files:
            self.assertTrue((STATIC / place.removeprefix("/static/")).is_file(), place)

    def test_every_field_has_a_label(self) -> None:
        labelled = {label["for"] for label in self.page.all("label") if "for" in label}
        for index, (tag, field) in enumerate(self.page.elements):
            if tag == "input":
                around = self.page.elements[index - 1][0] == "label"
                self.assertTrue(around or field.get("id") in labelled or "aria-label" in field, field)

    def test_changes_are_told_to_screen_readers(self) -> None:
        self.assertIn({"id": "notice", "class": "notice", "role": "status"}, self.page.all("div"))

    def test_the_script_finds_every_element_it_looks_for(self) -> None:
        ids = {attributes["id"] for _, attributes in self.page.elements if "id" in attributes}
        wanted = set(re.findall(r'\$\("([\w-]+)"\)', self.script))
        self.assertLessEqual(wanted, ids)
        self.assertIn("list", wanted)

    def test_the_script_asks_only_what_the_contract_has(self) -> None:
        asked = re.findall(r'ask\("([A-Z]+)", ["`]([^"`]+)["`]', self.script)
        self.assertEqual({(method, re.sub(r"\$\{[^}]+\}", "{id}", path)) for method, path in asked}, CONTRACT)

    def test_no_text_of_a_user_becomes_markup(self) -> None:
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            self.assertNotIn(word, self.script)

    def test_nothing_is_inline_so_the_strict_content_policy_holds(self) -> None:
        self.assertEqual([script for script in self.page.all("script") if "src" not in script], [])
        self.assertEqual(self.page.all("style"), [])
        for _, attributes in self.page.elements:
            self.assertFalse([name for name in attributes if name == "style" or name.startswith("on")])

    def test_dark_mode_and_the_keyboard_are_thought_of(self) -> None:
        self.assertIn("prefers-color-scheme: dark", self.style)
        self.assertIn(":focus-visible", self.style)


if __name__ == "__main__":
    unittest.main()
