"""What a folder brings that is a program in disguise: templates, regular expressions, archives."""

import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
import tokenizers

from decodekit.chat import Chat
from decodekit.tokenizer import MAX_ADDED, Tokenizer

FIXTURES = Path(__file__).parent.parent / "fixtures"
TRIAL = r"regex_trial\.py$"
SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
START = r"[^\r\n\p{L}\p{N}]?"
PATTERNS = [  # of models of the field: GPT-2, Llama 3, GPT-4o
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    SUFFIX + "|" + START + r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES,
    f"{START}{UPPER}*{LOWER}+{SUFFIX}?|{START}{UPPER}+{LOWER}*{SUFFIX}?|"
    rf"\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}",
]
LONG = "{% set ns = namespace(x='xxxxxxxxxxxxxxxx') %}"


@pytest.fixture
def decoding(tmp_path):
    """A folder that loads and decodes; a test then does something to it."""
    return shutil.copytree(FIXTURES / "optimum", tmp_path / "optimum")


# M22


@pytest.mark.parametrize(
    "template",
    [
        # without end, or as good as that
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in range(99999) %}{{ range(99999)|map('string')|list|length }}{% endfor %}",
        "{% for a in range(99999) %}{% set x = range(99999)|sum %}{% endfor %}",
        "{% for a in range(10 ** 9) %}x{% endfor %}",
        "{% for a in [[[]]] recursive %}{{ loop([[[]], [[]]]) }}{% endfor %}",
        # without bounds
        "{{ 'x' * 10 ** 9 }}",
        "{{ [0] * 1000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ 'x'|center(1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ 'x'|indent(1000000000) }}",
        LONG + "{% for a in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        LONG + "{% for a in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        LONG + "{% for a in range(40) %}{% set ns.x = ns.x.replace('x', ns.x) %}{% endfor %}",
        LONG + "{% for a in range(40) %}{% set ns.x = ns.x|replace('x', ns.x) %}{% endfor %}",
        LONG + "{% for a in range(40) %}{% set ns.x = ns.x.join(ns.x) %}{% endfor %}",
        LONG + "{% for a in range(40) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}",
        # out of the sandbox
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ ''|attr('__class__') }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ self.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends 'x' %}",
        # not as the author thought
        "{{ nobody.there }}",
        "{{ raise_exception('roles must alternate') }}",
        "{% for %}",
        "{{ " + "(" * 50_000,
        "{{ 1" + "+1" * 50_000 + " }}",
        "{% if x %}" * 5_000,
    ],
)  # fmt: skip
def test_m22_a_template_can_neither_escape_nor_run_on(attack, decoding, template):
    (decoding / "chat_template.jinja").write_text(template)
    attack("load", decoding).refused("^chat template: ", "TemplateError", "E_TEMPLATE")


def test_m22_a_template_that_is_too_long_or_no_text_is_not_read(attack, decoding):
    (decoding / "chat_template.jinja").write_text("x" * (1 << 20) + "y")
    attack("open", decoding).refused("chat_template.jinja: not a chat template .*at most")
    (decoding / "chat_template.jinja").write_bytes(b"\xff\xfe")
    attack("open", decoding).refused("chat_template.jinja: not a chat template")


def test_m22_what_templates_of_the_field_do_stays_possible(tokenizer):
    template = """
        {%- set ns = namespace(seen=false) %}
        {%- macro show(m) %}{{ '<' ~ m.role ~ '>' + m['content'] | trim }}{% endmacro %}
        {%- for m in messages[::-1] if m.role != 'system' %}
            {%- if loop.first or not ns.seen %}{% set ns.seen = true %}{% endif %}
            {{- show(m).split('>')[-1].lstrip('\\n') }}{{ loop.index0 }}/{{ loop.length }}
            {%- if not loop.last %},{% endif %}
        {%- endfor %}
        {{- [{'a': 1}] | tojson(indent=4) }}{{ 'x' * 3 }}{{ messages | map(attribute='role') | join('+') }}
    """
    messages = [{"role": r, "content": f" {r} "} for r in ("system", "user", "assistant")] * 100
    ids = Chat(tokenizer, template, None).prompt(messages)
    assert tokenizer.decode(ids).startswith("assistant0/200,user1/200,assistant2/200,")


# M17, M18


def tokenizer_with(folder, **parts):
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(content | parts))


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "a+$", r"(\w+\s?)*$", "([0-9]+)*$"])
def test_m18_a_pattern_that_goes_back_and_forth_is_found_and_ended(attack, decoding, pattern):
    tokenizer_with(decoding, pre_tokenizer={"type": "Sequence", "pretokenizers": [split(pattern)]})
    report = attack("load", decoding)
    report.refused_after(TRIAL, "tokenizer.json: its pattern .* takes more than 2 s for a text, or fails")


def test_m18_a_pattern_of_a_normalizer_is_tried_too(attack, decoding):
    replace = {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}
    tokenizer_with(decoding, normalizer=replace)
    attack("load", decoding).refused_after(TRIAL, "tokenizer.json: its pattern")


def test_m18_patterns_of_the_field_are_accepted(tmp_path, tokenizer_file):
    for pattern in PATTERNS:
        content = json.loads(tokenizer_file.read_text())
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split(pattern), level]}
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        assert Tokenizer(tmp_path / "tokenizer.json").encode("a cat")


def test_m18_a_failure_inside_the_library_is_an_error_of_ours(tokenizer_file, monkeypatch, tmp_path):
    content = json.loads(tokenizer_file.read_text())
    content["pre_tokenizer"] = split("(é+)+$")
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    monkeypatch.setattr("decodekit.tokenizer.slow", lambda parts: None)  # as if the trial had missed it
    with pytest.raises(Exception, match="the tokenizer failed at a text of 41 characters") as error:
        Tokenizer(tmp_path / "tokenizer.json").encode("é" * 40 + "!")
    assert error.value.code == "E_TOKENIZER"


def test_m17_a_million_added_tokens_are_not_read(attack, decoding):
    flags = '"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true'
    added = ",".join(f'{{"id":{300 + i},"content":"<{i}>",{flags}}}' for i in range(1_000_000))
    text = (decoding / "tokenizer.json").read_text()
    (decoding / "tokenizer.json").write_text(
        text.replace('"added_tokens": [', f'"added_tokens": [{added},', 1)
    )
    report = attack("open", decoding)
    report.refused(rf"added tokens; at most {MAX_ADDED} are read", "TokenizerError", "E_TOKENIZER")


# M19


def test_m19_a_tokenizer_of_another_model_of_the_same_size_is_found_by_its_hash(attack, tmp_path):
    folder = shutil.copytree(FIXTURES / "in_place", tmp_path / "bundle")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    first, last = min(vocabulary, key=vocabulary.get), max(vocabulary, key=vocabulary.get)
    vocabulary[first], vocabulary[last] = vocabulary[last], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    attack("load", folder).refused(
        "tokenizer.json: (sha256 differs|.* bytes, the manifest says)", "BundleHashError"
    )


# M26


@pytest.mark.parametrize("name", ["bundle.zip", "bundle.tar", "bundle.tar.gz"])
@pytest.mark.parametrize("do", ["load", "inspect"])
def test_m26_an_archive_is_not_unpacked(attack, tmp_path, name, do):
    (tmp_path / "in").mkdir()
    archive = tmp_path / "in" / name
    if name.endswith("zip"):
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
            out.writestr("../escaped", "x")
            out.writestr("decodekit.json", "0" * 50_000_000)
    else:
        with tarfile.open(archive, "w:gz" if name.endswith("gz") else "w") as out:
            member = tarfile.TarInfo("../escaped")
            out.addfile(member, io.BytesIO(b""))
    report = attack(do, archive)
    message = "a file and no folder; archives are not unpacked here: unpack it first"
    if do == "load":
        report.refused(message)
    else:
        status, _, shown = report.accepted()
        assert status == 2 and message in " ".join(shown.split())
    assert [path.name for path in tmp_path.iterdir()] == ["in"] and len([*archive.parent.iterdir()]) == 1
