"""The files of the playground: all there, from this server alone, under a policy that lets no other act."""

import re
from html.parser import HTMLParser
from urllib.parse import urljoin


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def tags(html):
    parser = Tags()
    parser.feed(html)
    return parser.found


def test_every_file_that_the_page_names_is_served(http):
    page = http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    wanted = {a.get("src") or a.get("href") for t, a in tags(page.text) if t in ("script", "link")}
    left, seen = {f"/{name}" for name in wanted if not name.startswith("data:")}, set()
    while left:
        name = left.pop()
        seen.add(name)
        answer = http.get(name)
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind), name
        imported = re.findall(r'(?:from|import) "([^"]+)";', answer.text)
        left |= {urljoin(name, one) for one in imported} - seen
    assert {"/static/main.js", "/static/run.js", "/page/step.js"} <= seen


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(http):
    page = http.get("/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    for tag, attributes in tags(page.text):
        assert tag != "style" and (tag != "script" or attributes.get("src")), tag
        assert not any(name == "style" or name.startswith("on") for name in attributes), attributes
    assert "//" not in re.sub(r"<!--.*?-->", "", page.text)


def test_files_are_asked_for_again_after_an_upgrade(http):
    for path in ("/", "/static/main.js", "/page/parts.css"):
        assert http.get(path).headers["cache-control"] == "no-cache"


def test_no_other_file_is_served(http):
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/page/../trace_page.py", "/static/", "/page"):
        assert http.get(path).status_code == 404, path
