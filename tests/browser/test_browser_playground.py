"""The playground in a real browser: what it shows is what the decoder did, and all of it works by keys."""

import json
import re
import shutil
import subprocess
import sys

import pytest

PROMPT = "Give me a tagline for a new coffee shop."
CHAIN = "temperature=0.9, top_k=40, top_p=0.95"
KEY = "a key that is long enough"
FAILED = "console: Failed to load resource"  # what Chromium itself says of an error's status


def tokens(page, pane="a"):
    return page.locator(f"[id^={pane}-token-]")


def text(page, pane="a"):
    """Of the answer that is shown, without what belongs to none."""
    shown = page.locator(f"[id^={pane}-token-]:not(.silent):not(.cut)").all_text_contents()
    return "".join(shown).replace("↵\n", "\n")


def whole(page, pane="a"):
    page.locator(f"#{pane}-token-1").wait_for()
    page.get_by_role("button", name="Run", exact=True).wait_for()


def run(page, prompt=PROMPT):
    page.get_by_role("textbox", name="Prompt").fill(prompt)
    page.get_by_role("button", name="Run", exact=True).click()
    whole(page)


def add(page, name, noun="strategy"):
    page.get_by_role("button", name=f"Add a {noun}").first.click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_label("Search").fill(name)
    dialog.locator("li button:visible").filter(has=page.locator(f"code:text-is('{name}')")).click()
    return page.locator(".card").filter(has=page.locator(f".name code:text-is('{name}')")).last


def names(page, list_="#chains"):
    return page.locator(f"{list_} .card .name code").all_inner_texts()


def focused(page, what="textContent"):
    return page.evaluate(f"document.activeElement.{what}")


# type, run, read


def test_a_prompt_becomes_the_answer_of_the_decoder(visited, tagline):
    page = visited()
    assert page.get_by_text("Watch how every token is chosen").is_visible()
    run(page)
    expected = tagline.trace(PROMPT, CHAIN, seed=1, max_new_tokens=64)
    assert text(page) == expected.text and tokens(page).count() == len(expected.steps)
    edges = (0.9, 0.5, 0.2, 0.05)
    bins = [int(token.get_attribute("data-bin")) for token in tokens(page).all()]
    assert bins == [sum(step.probability < edge for edge in edges) for step in expected.steps]
    assert (
        page.locator(".state").inner_text() == f"{len(expected.steps)} tokens, ended by {expected.stopped_by}"
    )
    assert page.locator("#a-title").inner_text() == "Answer"
    assert page.locator(".plot svg[role=img] rect.surprise").count() == len(expected.steps)
    assert expected.text in page.locator("#status").text_content(), "it is said"


def test_raw_text_is_continued(visited, tagline):
    page = visited()
    page.get_by_label("Raw text").check()
    run(page, "Fresh coffee")
    ids = (*tagline.tokenizer.prefix, *tagline.tokenizer.encode("Fresh coffee"))
    assert text(page) == tagline.generate(ids, CHAIN, seed=1, max_new_tokens=64).text


def test_a_clicked_token_shows_its_step(visited, tagline):
    page = visited()
    run(page)
    trace = tagline.trace(PROMPT, CHAIN, seed=1, max_new_tokens=64)
    for i in (0, 2, len(trace.steps) - 1):
        tokens(page).nth(i).click()
        step = trace.steps[i]
        assert page.locator("#a-step-title").inner_text().startswith(f"Token {i + 1} of {len(trace.steps)}")
        feet = page.locator("#a-step .matrix tfoot tr").first.locator("td").all_inner_texts()
        assert feet == [f"{n:,}" for n in (trace.vocabulary, *(stage.alive for stage in step.stages))]
        cards = page.locator("#a-step .stages > li h4").all_inner_texts()
        assert [card.split()[0] for card in cards] == ["temperature", "top_k", "top_p"]
        assert page.locator("#a-step .draw").count() == (step.draw.noise is not None)


def test_another_seed_is_another_answer_and_the_same_seed_the_same(visited):
    page = visited()
    found = []
    for seed in ("1", "2", "1"):
        page.get_by_label("Seed", exact=True).fill(seed)
        run(page)
        found.append(text(page))
    assert found[0] == found[2] != found[1]
    page.get_by_role("button", name="New seed").click()
    assert page.get_by_label("Seed", exact=True).input_value() not in ("1", "2")


def test_tokens_stream_and_a_stopped_answer_can_be_traced(visited):
    page = visited()
    page.get_by_label("Model", exact=True).select_option("slow")
    page.get_by_label("Raw text").check()
    page.get_by_label("Most tokens").fill("200")
    page.get_by_role("textbox", name="Prompt").fill("a")
    for name in names(page):
        page.get_by_label(f"Use {name}").uncheck()
    card = add(page, "allowed_tokens")
    card.get_by_label("ids").fill("300, 301, 302, 303")
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator(".stream .token").nth(5).wait_for()
    assert page.locator(".state").inner_text().startswith("Running, ")
    assert all(
        bin is not None
        for bin in page.locator(".stream .token").evaluate_all("all => all.map(e => e.dataset.bin)")
    )
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("button", name=re.compile("Trace these")).wait_for()
    count = page.locator(".stream .token").count()
    came = "".join(page.locator(".stream .token").all_text_contents())
    page.get_by_role("button", name=f"Trace these {count} tokens").click()
    whole(page)
    assert tokens(page).count() == count and text(page) == came


# fork


def test_a_fork_goes_on_with_another_token_on_the_same_seed(visited, tagline):
    page = visited()
    run(page)
    trace = tagline.trace(PROMPT, CHAIN, seed=1, max_new_tokens=64)
    first = text(page)
    button = page.locator("#a-step .fork").first
    chosen = next(id for id in trace.steps[0].ids if id != trace.steps[0].id)
    assert trace.tokens[chosen].strip() in button.get_attribute("aria-label")
    button.click()
    whole(page)
    ids = (*trace.prompt, chosen)
    expected = tagline.generate(ids, CHAIN, seed=1, max_new_tokens=63)
    assert text(page) == trace.tokens[chosen] + expected.text != first
    assert page.locator("#a-step-title").inner_text().startswith("Token 1 of")
    assert "You chose it; the draw had fallen on" in page.locator("#a-step .lead").inner_text()
    assert page.locator(".branches button").count() == 2 and focused(page).startswith("1: ")
    page.get_by_role("button", name="First answer").click()
    whole(page)
    assert text(page) == first


def test_a_fork_of_a_fork_keeps_what_came_before(visited, tagline):
    page = visited()
    run(page)
    for i in (1, 3):
        tokens(page).nth(i).click()
        page.locator("#a-step .fork").first.click()
        whole(page)
    trace = tagline.trace(PROMPT, CHAIN, seed=1, max_new_tokens=64)
    one = next(id for id in trace.steps[1].ids if id != trace.steps[1].id)
    second = tagline.trace((*trace.prompt, trace.ids[0], one), CHAIN, seed=1, max_new_tokens=62)
    other = next(id for id in second.steps[1].ids if id != second.steps[1].id)
    ids = (*trace.prompt, trace.ids[0], one, second.ids[0], other)
    last = tagline.generate(ids, CHAIN, seed=1, max_new_tokens=60)
    assert text(page) == tagline.tokenizer.decode(ids[len(trace.prompt) :]) + last.text
    assert page.locator(".branches button").count() == 3


@pytest.mark.parametrize("after", [1, 4])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mirostat", {"tau": 4}),
        ("repetition_penalty", {"theta": 1.8}),
        ("json_schema", {"schema": '{"type": "array", "items": {"type": "integer"}}'}),
    ],
)
def test_a_fork_goes_on_as_if_its_tokens_had_been_drawn(visited, tagline, name, options, after):
    page = visited()
    for other in ("top_k", "top_p"):
        page.get_by_role("button", name=f"Remove {other}").click()
    page.get_by_label("t", exact=True).fill("1.5")
    card = add(page, name)
    for option, value in options.items():
        card.get_by_label(option, exact=True).fill(f"{value}")
    run(page)
    chain = ["temperature=1.5", *(f"{name}.{option}={value}" for option, value in options.items())]
    trace = tagline.trace(PROMPT, chain, seed=1, max_new_tokens=64)
    ends = tagline.bundle.stop_ids
    place, step, chosen = next(
        (i, step, id)
        for i, step in enumerate(trace.steps)
        for id, logit in zip(step.ids, step.stages[-1].logits)
        if i >= after and logit is not None and id != step.id and id not in ends
    )
    tokens(page).nth(place).click()
    at = [id for id in step.ids if id != step.id].index(chosen)
    page.locator("#a-step .fork").nth(at).evaluate("e => e.click()")  # it may stand among those folded away
    whole(page)

    session = tagline.session(PROMPT, chain, seed=1, max_new_tokens=64)
    session.append([*trace.ids[:place], chosen])
    token = session.sample()
    while token.stop is None:
        token = session.sample()
    assert tokens(page).count() == len(session.generated)
    assert text(page) == session.text
    assert page.locator("#a-step .stages > li").count() == 2, "how it was asked is not shown"
    assert "begins anew" not in page.locator("#a-title").evaluate("e => e.closest('section').textContent")


def test_a_fork_that_forgets_says_so(visited):
    def without_bias(route):
        if not route.request.url.endswith("/v1/strategies"):
            return route.continue_()
        answer = route.fetch()
        found = answer.json()
        found["processors"] = [one for one in found["processors"] if one["name"] != "forced_prefix"]
        return route.fulfill(response=answer, json=found)

    page = visited(routed=without_bias)
    add(page, "repetition_penalty").get_by_label("theta", exact=True).fill("1.3")
    run(page)
    page.locator("#a-step .fork").first.click()
    whole(page)
    assert page.get_by_text("begins anew behind this fork").is_visible()


def test_a_fork_to_a_token_that_the_chain_removed(visited, tagline):
    page = visited()
    add(page, "repetition_penalty").get_by_label("theta", exact=True).fill("1.3")
    page.get_by_label("k", exact=True).fill("1")
    run(page)
    page.locator("#a-step .fork").first.click()
    whole(page)
    trace = tagline.trace(PROMPT, "temperature=0.9, top_k=1", seed=1)
    chosen = next(id for id in trace.steps[0].ids if id != trace.steps[0].id)
    assert tokens(page).first.text_content() == trace.tokens[chosen]
    assert tokens(page).count() > 2 and "You chose it" in page.locator("#a-step .lead").inner_text()


def test_a_fork_to_an_end_token_ends_there(visited, tagline):
    end = min(tagline.bundle.stop_ids)
    traces = (tagline.trace(PROMPT, CHAIN, seed=seed, max_new_tokens=64) for seed in range(100))
    trace, at = next(
        (trace, i)
        for trace in traces
        for i, step in enumerate(trace.steps)
        if i and end in step.ids and step.id != end
    )
    page = visited()
    page.get_by_label("Seed", exact=True).fill(f"{trace.seed}")
    run(page)
    tokens(page).nth(at).click()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("button", name=re.compile("Show .* more")).click()
    page.locator("#a-step").get_by_role("button", name="go on with <|end|> instead").click()
    assert asked == [] and tokens(page).count() == at + 1
    assert page.locator(".state").inner_text() == f"{at + 1} tokens, ended by you"


# compare


def test_two_chains_side_by_side_on_one_seed(visited, tagline):
    page = visited()
    page.get_by_label("Compare two").check()
    run(page)
    whole(page, "b")
    assert "A and B are the same, all" in page.locator("#difference").inner_text()
    page.get_by_label("t", exact=True).last.fill("0")
    page.get_by_role("button", name="Run", exact=True).click()
    whole(page)
    whole(page, "b")
    a = tagline.generate(PROMPT, CHAIN, seed=1, max_new_tokens=64)
    b = tagline.generate(PROMPT, CHAIN.replace("0.9,", "0,"), seed=1, max_new_tokens=64)
    assert (text(page), text(page, "b")) == (a.text, b.text)
    at = next(i for i, (x, y) in enumerate(zip(a.ids, b.ids)) if x != y)
    words = f"A and B are the same for {at} token" if at else "A and B part at the first token"
    assert page.locator("#difference").inner_text().startswith(words)
    assert page.locator(".token.parts").count() == 2
    page.locator("#b-token-2").click()
    for pane in "ab":
        assert page.locator(f"#{pane}-step-title").inner_text().startswith("Token 2 of")
    page.locator("#b-step .fork").first.click()
    whole(page, "b")
    assert text(page) == a.text, "a fork of one leaves the other alone"


# chains


def test_a_strategy_of_a_plugin_is_added_set_and_used(visited, tagline):
    page = visited()
    card = add(page, "mirostat")
    assert focused(page, "id") == card.locator("input[type=text]").first.get_attribute("id")
    card.get_by_label("tau").fill("3")
    card.locator("summary").click()
    assert "arXiv:2007.14966" in card.inner_text()
    run(page)
    chain = "temperature=0.9, top_k=40, top_p=0.95, mirostat.tau=3"
    assert text(page) == tagline.generate(PROMPT, chain, seed=1, max_new_tokens=64).text
    assert "mirostat" in page.locator("#a-step .stages").inner_text()


def test_every_installed_strategy_and_criterion_has_a_form(visited, tagline):
    page = visited(height=2000)
    for noun, registry in (
        ("strategy", tagline.plugins.logits_processors),
        ("criterion", tagline.plugins.stopping_criteria),
    ):
        for name in registry.entries:
            card = add(page, name, noun)
            shape = page.evaluate(
                """async ([kind, name]) => (await (await fetch("v1/strategies")).json())[kind]
                    .find((one) => one.name === name).schema""",
                ["processors" if noun == "strategy" else "stopping", name],
            )
            assert card.locator(".field").count() == len(shape["properties"]), name
            for option in shape["properties"]:
                assert card.locator(f"[id$='-{option}']").count() == 1, (name, option)
            assert shape["description"] in card.inner_text()
            card.get_by_role("button", name="Remove").click()


def test_values_of_every_kind_reach_the_request(visited):
    page = visited(expected=(FAILED,))  # no token begins both "The" and JSON
    for name, fields in {
        "bad_words": {"words": "cup\ncof\\nfee\n[12, 13]"},
        "forced_prefix": {"prefix": "The"},
        "xtc": {"probability": "0.5", "threshold": "0.2", "protect": "1, 2"},
        "json_schema": {"schema": '{"type": "object"}'},
    }.items():
        card = add(page, name)
        card.locator("details").evaluate("e => e.open = true")
        for option, value in fields.items():
            card.get_by_label(option, exact=True).fill(value)
        if name == "xtc":
            card.get_by_label("protect_stop").check()
    asked = []
    page.on("request", lambda request: asked.append(request))
    page.get_by_role("textbox", name="Prompt").fill("x")
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator(".state").get_by_text(re.compile("Failed|ended")).wait_for()
    sent = json.loads(asked[0].post_data)["decodekit"]["processors"][3:]
    assert sent == [
        {"name": "bad_words", "words": ["cup", "cof\nfee", [12, 13]]},
        {"name": "forced_prefix", "prefix": "The"},
        {"name": "xtc", "probability": 0.5, "threshold": 0.2, "protect": [1, 2], "protect_stop": True},
        {"name": "json_schema", "schema": {"type": "object"}},
    ]


def test_strategies_are_ordered_switched_off_and_removed_by_keys(visited, tagline):
    page = visited()
    page.get_by_role("button", name="Move down temperature").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert names(page) == ["top_k", "top_p", "temperature"]
    assert focused(page, "getAttribute('aria-label')") == "Move down temperature"
    assert page.locator("#status").text_content() == "temperature is number 3 of 3 now."
    page.get_by_label("Use top_k").press("Space")
    page.get_by_role("button", name="Remove top_p").press("Enter")
    assert names(page) == ["top_k", "temperature"]
    assert focused(page, "getAttribute('aria-label')") == "Remove temperature"
    run(page)
    assert text(page) == tagline.generate(PROMPT, "temperature=0.9", seed=1, max_new_tokens=64).text


def test_a_criterion_ends_the_answer(visited, tagline):
    page = visited()
    add(page, "stop_strings", "criterion").get_by_label("strings", exact=True).fill(" of")
    run(page)
    expected = tagline.trace(PROMPT, CHAIN, seed=1, max_new_tokens=64, stop=" of")
    assert text(page) == expected.text
    assert page.locator(".state").inner_text().endswith("ended by ' of'")


# links and code


def test_a_link_restores_everything_and_sends_nothing(visited):
    page = visited()
    page.get_by_label("Compare two").check()
    page.get_by_label("t", exact=True).last.fill("0.3")
    page.get_by_label("Use top_k").first.uncheck()
    add(page, "max_time", "criterion").get_by_label("seconds").fill("9")
    page.get_by_label("Seed", exact=True).fill("77")
    run(page, "☕ für <b>dich</b>\nund mich")
    whole(page, "b")
    link = page.url
    before = (names(page), text(page), text(page, "b"))
    fragment = link[link.index("#") :]

    again = visited(fragment)
    again.locator("#ask").wait_for()
    assert again.get_by_role("textbox", name="Prompt").input_value() == "☕ für <b>dich</b>\nund mich"
    assert again.get_by_label("Seed", exact=True).input_value() == "77"
    assert not again.get_by_label("Use top_k").first.is_checked()
    assert names(again, "#stopping") == ["max_time"] and again.url == link
    again.get_by_role("button", name="Run", exact=True).click()
    whole(again)
    whole(again, "b")
    assert (names(again), text(again), text(again, "b")) == before


@pytest.mark.parametrize(
    ("fragment", "words"),
    [("#1.%%%", "damaged"), ("#1.e30", "does not hold settings"), ("#1.bnVsbA", "does not hold settings")],
)
def test_a_damaged_link_is_told(visited, fragment, words):
    page = visited(fragment)
    page.get_by_text(words).wait_for()
    assert names(page) == ["temperature", "top_k", "top_p"]


def test_the_link_is_copied(visited):
    page = visited(permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("textbox", name="Prompt").fill("hello")
    page.get_by_role("button", name="Copy link").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == page.url and "#1." in page.url


@pytest.mark.parametrize("mode", ["Chat message", "Raw text"])
def test_the_code_gives_the_same_answer(visited, mode, tmp_path):
    page = visited()
    page.get_by_label(mode).check()
    add(page, "stop_strings", "criterion").get_by_label("strings", exact=True).fill("'\\n\"")
    add(page, "mirostat")
    run(page, 'It\'s "new": a café, $HOME & more\\')
    page.get_by_text("Copy as code").click()
    ran = []
    for kind in ("Python", "OpenAI client", "curl", "Command line"):
        page.get_by_label(kind, exact=True).check()
        code = page.locator("#source pre").inner_text()
        if code.startswith("#"):
            assert mode == "Raw text" and kind == "Command line"
            continue
        if kind == "curl" and not shutil.which("curl"):
            continue
        if kind in ("Python", "OpenAI client"):
            command = [sys.executable, "-c", code]
        else:
            command = ["bash", "-c", f"PATH={sys.prefix}/bin:$PATH; " + code]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60)
        answer = done.stdout
        if kind == "curl":
            choice = json.loads(answer)["choices"][0]
            answer = choice["message"]["content"] if mode == "Chat message" else choice["text"]
        assert answer.rstrip("\n") == text(page).rstrip("\n"), kind
        ran.append(kind)
    assert len(ran) >= 2


# what goes wrong


def test_a_value_out_of_its_range_is_told_and_not_sent(visited):
    page = visited()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_label("p", exact=True).fill("1.5")
    assert page.get_by_text("p must be a number: 0 to 1").is_visible()
    page.get_by_role("textbox", name="Prompt").fill("x")
    page.get_by_role("button", name="Run", exact=True).click()
    assert page.locator("#ask-problem").inner_text() == "top_p: p must be a number: 0 to 1"
    assert focused(page, "value") == "1.5" and asked == []
    page.get_by_label("p", exact=True).fill("")
    assert page.get_by_text("p is needed").is_visible()
    page.get_by_label("p", exact=True).fill("0.5")
    page.get_by_label("Most tokens").fill("5000")
    assert page.get_by_text("a whole number from 1 to 1024").is_visible()
    page.get_by_role("button", name="Run", exact=True).click()
    assert focused(page, "id") == "max-tokens" and asked == []


def test_an_empty_prompt_is_told(visited):
    page = visited()
    page.get_by_role("button", name="Run", exact=True).click()
    assert page.get_by_text("Type a prompt first.").is_visible() and focused(page, "id") == "prompt"


def test_what_the_server_refuses_is_told_where_it_belongs(visited):
    page = visited(expected=(FAILED,))
    add(page, "max_time", "criterion").get_by_label("seconds", exact=True).fill("9")
    card = add(page, "stop_regex", "criterion")
    card.get_by_label("pattern", exact=True).fill("(")
    page.get_by_role("textbox", name="Prompt").fill("x")
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator(".error").wait_for()
    words = page.locator(".error").inner_text()
    assert words.startswith("decodekit.stopping.1: stop_regex: ")
    assert words in card.inner_text() and "at-fault" in card.get_attribute("class")
    assert page.locator(".at-fault").count() == 1


def test_a_link_that_names_what_is_not_here_says_so(visited):
    page = visited()
    settings = page.evaluate(
        """async () => {
            const { fromFragment, toFragment } = await import("/static/settings.js");
            const found = fromFragment(location.hash);
            found.model = "elsewhere";
            found.chains[0].push({ name: "nobodys", options: {}, on: true });
            return toFragment(found);
        }"""
    )
    again = visited(settings, expected=(FAILED,))
    assert again.get_by_text("nobodys is not installed on this server").is_visible()
    assert again.get_by_label("Model", exact=True).input_value() == "elsewhere"
    again.get_by_role("textbox", name="Prompt").fill("x")
    again.get_by_role("button", name="Run", exact=True).click()
    again.get_by_text("no model named 'elsewhere'").wait_for()


def test_a_server_that_went_away_is_told(visited, tagline, running):
    with running({"tagline": tagline}) as url:
        page = visited(url=url, expected=(FAILED,))
        page.locator("#ask").wait_for()
    page.get_by_role("textbox", name="Prompt").fill("x")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("The server does not answer. Is it still running?").wait_for()
    assert page.get_by_role("button", name="Run", exact=True).is_visible()


def test_the_key_that_the_browser_asked_for_is_enough(visited, tagline, running):
    with running({"tagline": tagline}, [KEY]) as url:
        page = visited(url=url, expected=(FAILED,), http_credentials={"username": "x", "password": KEY})
        run(page)
        assert text(page)


def test_a_key_typed_into_the_page_opens_the_server(visited, tagline, running):
    with running({"tagline": tagline}, [KEY]) as url:

        def let_in(route):
            """As a proxy that lets files through and takes from the API's refusal what browsers act on."""
            key = {"authorization": f"Bearer {KEY}"}
            if "/v1/" not in route.request.url:
                return route.continue_(headers=route.request.headers | key)
            if route.request.headers.get("authorization") == key["authorization"]:
                return route.continue_()
            error = {"error": {"message": "a key is needed: Authorization: Bearer KEY", "code": "E_KEY"}}
            return route.fulfill(status=401, json=error)

        page = visited(url=url, expected=(FAILED,), routed=let_in)
        page.get_by_label("Key of this server").fill("wrong")
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("a key is needed").wait_for()
        page.get_by_label("Key of this server").fill(KEY)
        page.get_by_role("button", name="Use it").click()
        run(page)
        assert text(page)
        kept = page.evaluate(
            "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
        )
        assert KEY not in kept and "e30" not in kept
        page.get_by_text("Copy as code").click()
        page.get_by_label("curl", exact=True).check()
        code = page.locator("#source pre").inner_text()
        assert "$DECODEKIT_API_KEY" in code and KEY not in code


# what it lets nobody do


def test_hostile_text_is_shown_and_does_nothing(visited):
    page = visited()
    run(page, "</p><img src=x onerror=alert(1)><script>alert(2)</script>")
    assert page.locator("img, iframe, main script").count() == 0
    assert "<img src=x" in page.locator(".prompt").inner_text()


def test_the_policy_lets_only_the_servers_files_act(visited, browser, address):
    page = visited(expected=("console: Executing inline script violates", "console: Refused to execute"))
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'taken'";
            document.body.append(script);
        }"""
    )
    assert page.title() == "decodekit playground"
    policy = page.request.get(address).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


# for everybody


def test_by_keys_alone_from_the_prompt_to_a_fork(visited):
    page = visited()

    def tab_to(what, most=60):
        for _ in range(most):
            page.keyboard.press("Tab")
            outline = page.evaluate(
                """() => {
                    const e = document.activeElement;
                    const shown = e.matches(".segments input") ? e.nextElementSibling : e;
                    return getComputedStyle(shown).outlineStyle;
                }"""
            )
            assert outline != "none", focused(page, "outerHTML")[:200]
            if page.evaluate(f"document.activeElement.matches({json.dumps(what)})"):
                return
        raise AssertionError(f"no way to {what}")

    tab_to("#prompt")
    page.keyboard.type(PROMPT)
    tab_to("#run")
    page.keyboard.press("Enter")
    whole(page)
    assert focused(page, "id") == "run", "a run leaves the focus where it was"
    tab_to("[role=option]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert focused(page, "id") == "a-token-3"
    page.keyboard.press("End")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert focused(page, "id") == "a-step"
    tab_to(".fork")
    page.keyboard.press("Enter")
    whole(page)
    assert page.locator(".branches button").count() == 2
    page.locator("#prompt").focus()
    page.keyboard.press("Control+Enter")
    page.locator(".branches").wait_for(state="hidden")


def test_the_picker_closes_by_escape_and_gives_the_focus_back(visited):
    page = visited()
    page.get_by_role("button", name="Add a strategy").focus()
    page.keyboard.press("Enter")
    page.keyboard.type("no such thing")
    assert page.locator("dialog[open]").get_by_text("Nothing here is called so").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0 and "Add a strategy" in focused(page)
    page.keyboard.press("Enter")
    page.keyboard.type("mirostat")
    page.keyboard.press("Enter")
    assert names(page)[-1] == "mirostat"


LOOKS = {
    "light": {},
    "dark": {"scheme": "dark"},
    "narrow": {"width": 360, "height": 780},
    "narrow-dark": {"width": 360, "height": 780, "scheme": "dark"},
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("state", ["empty", "answer", "compare", "picker", "errors"])
def test_axe_finds_nothing(visited, pictures, look, state):
    from axe_playwright_python.sync_playwright import Axe

    page = visited(**LOOKS[look])
    page.locator("#ask").wait_for()
    if state == "picker":
        page.get_by_role("button", name="Add a strategy").click()
    if state == "compare":
        page.get_by_label("Compare two").check()
        page.get_by_label("t", exact=True).last.fill("0.2")
    if state in ("answer", "compare"):
        add(page, "mirostat")
        run(page)
        page.locator("#a-token-1").click()
        page.locator("#a-step .fork").first.click()
        whole(page)
    if state == "errors":
        page.get_by_label("p", exact=True).fill("7")
        page.get_by_role("button", name="Run", exact=True).click()
    page.locator("#panes" if state in ("answer", "compare") and "narrow" in look else "body").evaluate(
        "e => e.scrollIntoView()"
    )
    page.screenshot(path=pictures / f"playground-{state}-{look}.png")
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    found = Axe().run(page).response["violations"]
    assert [(v["id"], v["impact"], [node["html"][:100] for node in v["nodes"]][:3]) for v in found] == []


@pytest.mark.parametrize("width", [320, 360, 768, 991, 992, 1280, 2200])
def test_only_tables_scroll_sideways(visited, width):
    page = visited(width=width)
    page.get_by_label("Compare two").check()
    run(page, "x" * 100)
    add(page, "json_schema").get_by_label("schema", exact=True).fill("[" * 100)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
