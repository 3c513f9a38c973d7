"""The page of a trace in a real browser: what it shows, how it is walked through, what it lets nobody do."""

import re
from dataclasses import replace

import numpy as np
import pytest

import decodekit

COFFEE = "Give me a tagline for a new coffee shop."
CHAIN = "repetition_penalty=1.2, temperature=1.2, top_k=40, min_p=0.02, top_p=0.95"
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<style>*{display:none}</style>",
    "\u202eabc",
    "\0\a",
    "a\nb\n\n",
    "\u2028",
    "שלום",
    "🏳️‍🌈",
    "x" * 300,
    "&lt;b&gt;",
    "  ",
]


@pytest.fixture(scope="module")
def trace(plugins):
    return decodekit.load("tagline", plugins=plugins).trace(COFFEE, CHAIN, seed=11)


@pytest.fixture(scope="module")
def hostile(trace):
    texts = dict(zip(dict.fromkeys((*trace.ids, *trace.tokens)), HOSTILE * 100))
    steps = tuple(replace(step, text=texts[step.id]) for step in trace.steps)
    text = "".join(step.text for step in steps)
    return replace(trace, tokens=texts, steps=steps, text=text, bundle=HOSTILE[0], stopped_by=HOSTILE[1])


@pytest.fixture
def long(make_decoder):
    return make_decoder().trace(
        "the cat", "temperature=1.3, top_k=50", seed=1, max_new_tokens=500, ignore_eos=True
    )


def heading(page):
    return page.locator("#step-title").inner_text()


def selected(page):
    """The number of the selected token; there is exactly one."""
    option = page.get_by_role("option", selected=True)
    assert option.count() == 1
    return int(option.get_attribute("id").removeprefix("token-"))


def rows(page, label):
    """The texts of a table's visible lines, line by line."""
    lines = page.get_by_role("region", name=label).locator("tbody tr:visible")
    return [line.locator("th, td").all_inner_texts() for line in lines.all()]


def shown(p):
    return pytest.approx(p, rel=0.06, abs=0.0006)


def number(text):
    return float(re.search(r"[\d.]+", text)[0]) / 100


# what it shows


def test_the_answer_is_there_with_every_token(opened, trace):
    page = opened(trace)
    options = page.get_by_role("option")
    assert options.count() == len(trace.steps)
    texts = [option.text_content() for option in options.all()]
    assert "".join(texts).startswith(trace.text) and texts[-1] == "<|end|>"
    assert page.title().startswith("Trace: " + trace.text[:20])
    summary = page.locator("#summary").inner_text()
    assert "tagline" in summary and "seed 11" in summary.replace("\n", " ")


def test_each_step_shows_the_numbers_of_the_trace(opened, trace):
    page = opened(trace)
    for i, step in enumerate(trace.steps):
        assert heading(page).startswith(f"Token {i + 1} of {len(trace.steps)}")
        candidates = rows(page, "Probability of the candidates behind each strategy")
        assert len(candidates) in (10, 11)
        for row, (id, logit) in zip(candidates[:10], zip(step.ids, step.logits)):
            assert number(row[1]) == shown(np.exp(logit - step.norm)) and ("drawn" in row[0]) == (
                id == step.id
            )
            for cell, stage in zip(row[2:], step.stages, strict=True):
                after = stage.logits[step.ids.index(id)]
                assert ("%" in cell) == (after is not None)
                assert after is None or number(cell) == shown(np.exp(after - stage.norm))
        feet = page.locator(".matrix tfoot tr").first.locator("td").all_inner_texts()
        assert feet == [f"{n:,}" for n in (trace.vocabulary, *(stage.alive for stage in step.stages))]
        cards = page.locator(".stages > li").all()
        for card, entry, stage in zip(cards, trace.chain, step.stages, strict=True):
            words = card.inner_text()
            assert words.startswith(entry.name)
            assert ("Changed nothing." in words) == (stage.changed == stage.removed.count == 0)
            if more := stage.removed.count - 8 > 0:
                assert f"and {stage.removed.count - 8:,} other" in words
            assert ("together" in words) == more
        if step.draw.noise is None:
            assert "nothing to draw" in page.locator("#step").inner_text()
        else:
            scores = [float(row[3].replace("−", "-")) for row in rows(page, "Scores of the draw")]
            assert scores == pytest.approx(np.add(step.draw.logits, step.draw.noise), abs=2e-3)
        assert page.get_by_text("The answer ends here").count() == (step.stop is not None)
        page.keyboard.press("ArrowRight")


def test_the_shade_follows_the_measure_and_words_say_the_same(opened, trace):
    page = opened(trace)
    edges = (0.9, 0.5, 0.2, 0.05)
    for name, of in (
        ("model probability", lambda s: s.probability),
        ("probability after the chain", lambda s: s.final_probability),
    ):
        page.get_by_label(name).check()
        for option, step in zip(page.get_by_role("option").all(), trace.steps):
            bin = sum(of(step) < edge for edge in edges)
            assert option.get_attribute("data-bin") == str(bin)
            assert number(option.get_attribute("aria-label").rpartition(", ")[2]) == shown(of(step))
        lines = [page.locator(f".legend [data-bin='{i}']").evaluate(STYLE) for i in range(5)]
        assert len(set(lines)) == 5, "a pattern of its own for every shade"
    page.get_by_label("entropy of the model").check()
    labels = [option.get_attribute("aria-label") for option in page.get_by_role("option").all()]
    assert [float(label.split()[-2]) for label in labels] == pytest.approx(
        [step.entropy for step in trace.steps], abs=0.006
    )


STYLE = "e => getComputedStyle(e).textDecorationStyle + getComputedStyle(e).textDecorationColor"


def test_the_table_has_every_token_and_leads_to_it(opened, trace):
    page = opened(trace)
    page.get_by_text("All tokens as a table").click()
    lines = rows(page, "All tokens of the answer")
    assert [int(line[4]) for line in lines] == [step.rank for step in trace.steps]
    page.get_by_role("button", name="5", exact=True).click()
    assert selected(page) == 5 and page.evaluate("document.activeElement.id") == "token-5"


def test_more_candidates_are_shown_on_demand(opened, trace):
    page = opened(trace)
    label = "Probability of the candidates behind each strategy"
    few = len(rows(page, label))
    page.get_by_role("button", name=re.compile("Show .* more")).press("Enter")
    assert len(rows(page, label)) == len(trace.steps[0].ids) > few
    page.get_by_role("button", name="Show fewer").press("Enter")
    assert len(rows(page, label)) == few


def test_what_a_stop_string_cut_is_marked(opened, plugins):
    decoder = decodekit.load("tagline", plugins=plugins)
    whole = decoder.generate(COFFEE, CHAIN, seed=11)
    trace = decoder.trace(COFFEE, CHAIN, seed=11, stop=whole.tokens[3].text)
    page = opened(trace)
    assert page.locator(".token.cut").count() == 1
    assert page.get_by_role("option").last.get_attribute("class").endswith("cut")


def test_the_recipe_is_copied(opened, trace):
    page = opened(trace, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_text("The same answer again").click()
    for i, expected in enumerate((trace.recipe.python, trace.recipe.command)):
        page.get_by_role("button", name="Copy").nth(i).click()
        page.get_by_role("status").get_by_text("Copied.").wait_for(state="attached")
        assert page.evaluate("navigator.clipboard.readText()") == expected


def test_without_a_recipe_it_says_why(opened, trace):
    nothing = replace(trace, recipe=replace(trace.recipe, python=None, command=None))
    page = opened(nothing)
    page.get_by_text("The same answer again").click()
    assert page.get_by_text("registered under no name").is_visible()


# how it is walked through


def test_the_arrows_walk_along_the_answer(opened, trace):
    page = opened(trace)
    last = len(trace.steps)
    page.locator("#token-1").focus()
    for key, place in [
        ("ArrowRight", 2),
        ("ArrowRight", 3),
        ("ArrowLeft", 2),
        ("End", last),
        ("ArrowRight", last),
    ]:
        page.keyboard.press(key)
        assert (selected(page), page.evaluate("document.activeElement.id")) == (place, f"token-{place}")
        assert heading(page).startswith(f"Token {place} of") and page.url.endswith(f"#token={place}")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    assert selected(page) == 1


def test_the_arrows_work_from_anywhere_but_where_they_mean_something_else(opened, trace):
    page = opened(trace)
    page.keyboard.press("ArrowRight")
    assert selected(page) == 2
    assert page.get_by_role("status").text_content().startswith("Token 2 of"), "it is said"
    page.get_by_label("model probability").focus()
    page.keyboard.press("ArrowRight")
    assert selected(page) == 2 and page.get_by_label("probability after the chain").is_checked()
    page.get_by_role("region", name="Plot").focus()
    page.keyboard.press("ArrowRight")
    assert selected(page) == 2, "a scrolling region scrolls"
    page.locator("#token-2").focus()
    page.keyboard.press("Control+ArrowRight")
    assert selected(page) == 2


def test_the_buttons_keep_the_focus_and_say_the_token(opened, trace):
    page = opened(trace)
    page.get_by_role("button", name="Next token").focus()
    for place in (2, 3):
        page.keyboard.press("Enter")
        assert selected(page) == place
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Next token"
        assert page.get_by_role("status").text_content().startswith(f"Token {place} of")
    page.get_by_role("button", name="Previous token").press("Enter")
    assert selected(page) == 2


def test_tab_goes_through_the_page_in_reading_order_with_a_visible_focus(opened, trace):
    page = opened(trace)
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "[document.activeElement.getAttribute('aria-label') || document.activeElement.textContent,"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        if page.evaluate("document.activeElement === document.body"):
            break
        assert outline != "none", name
        seen.append(name)
    order = [
        "Skip to",
        "Plot",
        "Prompt",
        "1: ",
        "",
        "Previous token",
        "Next token",
        "Probability of the candidates",
    ]
    assert all(name.startswith(start) for name, start in zip(seen, order)), seen
    assert [name for name in seen if name.startswith(("All tokens", "The same", "What it was"))] == seen[-3:]


def test_the_link_at_the_start_skips_to_the_step(opened, trace):
    page = opened(trace)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "step"


def test_a_click_on_a_token_or_on_the_plot_selects(opened, trace):
    page = opened(trace)
    page.locator("#token-4").click()
    assert selected(page) == 4
    box = page.locator("#plot svg[role=img] .surprise").nth(6).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] - 5 if box["y"] > 120 else box["y"] + 1)
    assert selected(page) == 7


@pytest.mark.parametrize(("fragment", "place"), [("#token=3", 3), ("#token=9999", 1), ("#<img>", 1), ("", 1)])
def test_a_link_leads_to_a_token(opened, trace, fragment, place):
    assert selected(opened(trace, fragment=fragment)) == place


# what it lets nobody do


def test_hostile_text_is_shown_and_does_nothing(opened, hostile):
    page = opened(hostile)
    assert page.locator("img, iframe, object, svg script").count() == 0
    assert page.locator("script").count() == 2 and page.locator("style").count() == 1
    texts = page.get_by_role("option").all_text_contents()
    assert texts[0] == HOSTILE[0] and texts[1] == HOSTILE[1]
    assert texts[3] == "⟨U+202E⟩abc" and texts[4] == "⟨U+0000⟩⟨U+0007⟩" and texts[5] == "a↵\nb↵\n↵\n"
    for _ in hostile.steps:
        assert page.locator("#step").is_visible()
        page.keyboard.press("ArrowRight")


def test_the_policy_stops_a_script_that_is_put_in(browser, trace, tmp_path):
    html = trace.to_html().replace("</body>", "<script>document.title = 'taken'</script></body>")
    (tmp_path / "taken.html").write_text(html)
    page = browser.new_page()
    page.goto((tmp_path / "taken.html").as_uri())
    assert page.title().startswith("Trace")
    page.close()


# for everybody


LOOKS = {
    "light": {},
    "dark": {"scheme": "dark"},
    "narrow": {"width": 390, "height": 844},
    "narrow-dark": {"width": 390, "height": 844, "scheme": "dark"},
    "wide": {"width": 1800, "height": 1100},
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", ["trace", "hostile"])
def test_axe_finds_nothing(opened, pictures, request, look, kind):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(request.getfixturevalue(kind), **LOOKS[look], fragment="#token=3")
    page.screenshot(path=pictures / f"{kind}-{look}.png", full_page=True)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    for measure in ("model probability", "entropy of the model"):
        page.get_by_label(measure).check()
        found = Axe().run(page).response["violations"]
        assert [(v["id"], [node["html"][:100] for node in v["nodes"]][:3]) for v in found] == []


@pytest.mark.parametrize("width", [320, 390, 768, 991, 992, 1280, 2000])
@pytest.mark.parametrize("kind", ["trace", "hostile"])
def test_only_tables_scroll_sideways(opened, request, width, kind):
    page = opened(request.getfixturevalue(kind), width=width)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    for _ in range(3):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.keyboard.press("ArrowRight")


@pytest.mark.parametrize("height", [600, 900])
def test_the_selected_token_and_its_heading_are_in_sight_together(opened, long, height):
    page = opened(long, fragment="#token=400", height=height)
    page.locator("#plot .here").wait_for()
    assert heading(page).startswith("Token 400 of 500")
    for _ in range(3):
        for place in ("[aria-selected=true]", "#step-title"):
            box = page.locator(place).bounding_box()
            assert 0 <= box["y"] < box["y"] + box["height"] <= height, place
        page.keyboard.press("ArrowRight")


def test_a_long_answer_is_walked_through_at_once(opened, long):
    page = opened(long)
    page.locator("#token-1").focus()
    spent = page.evaluate(
        """() => {
            const times = [];
            for (let i = 0; i < 60; i++) {
                const began = performance.now();
                const press = new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true });
                document.activeElement.dispatchEvent(press);
                document.body.getBoundingClientRect();
                times.push(performance.now() - began);
            }
            return times.sort((a, b) => a - b)[30];
        }"""
    )
    assert selected(page) == 61 and spent < 100, f"{spent} ms a step"


def test_printed_it_is_whole(opened, trace, pictures):
    page = opened(trace, fragment="#token=2")
    page.emulate_media(media="print")
    assert not page.get_by_role("button", name="Next token").is_visible()
    assert not page.locator("#measure").is_visible()
    assert page.locator("#answer").evaluate("e => getComputedStyle(e).overflowY") == "visible"
    was_open = page.evaluate(
        """() => {
            const open = () => document.querySelectorAll("details[open]").length;
            const before = open();
            dispatchEvent(new Event("beforeprint"));
            const during = open();
            dispatchEvent(new Event("afterprint"));
            return [before, during, open()];
        }"""
    )
    assert was_open == [1, 4, 1], "what was folded is unfolded, and folded again"
    page.pdf(path=pictures / "trace.pdf", format="A4", print_background=True)


def test_the_small_functions(opened, trace):
    page = opened(trace)
    for call, expected in {
        "percent(0)": "0%",
        "percent(1)": "100%",
        "percent(0.99999)": ">99.9%",
        "percent(0.1234)": "12.3%",
        "percent(0.00123)": "0.12%",
        "percent(1e-9)": "<0.01%",
        "signed(-1.5)": "−1.500",
        "oneLine('  a b \\n')": "␣␣a b ↵",
        "oneLine('\\t\\u200b')": "⇥⟨U+200B⟩",
        "written({name: 'top_k', options: {k: 40}})": "top_k k=40",
        "written({name: 'Own', options: null})": "Own",
        "written({name: 'dry', options: {breakers: '\u202e'}})": 'dry breakers="⟨U+202E⟩"',
        "clip('x'.repeat(200)).length": 80,
        "ceiling(0.2)": 1,
        "ceiling(3.2)": 4,
        "ceiling(13)": 16,
        "isNeutral({changed: 0, removed: {count: 0}})": True,
        "isNeutral({changed: 1, removed: {count: 0}})": False,
    }.items():
        assert page.evaluate(call) == expected, call
