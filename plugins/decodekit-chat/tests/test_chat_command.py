"""A conversation by itself, through a pipe, and typed into a terminal."""

import io
import re
from pathlib import Path

import pytest
from decodekit_chat.conversation import Conversation
from decodekit_chat.lines import LINES

import decodekit
from decodekit import cli
from decodekit.errors import ParameterError, UnknownNameError
from decodekit.plugins import load_plugins


@pytest.fixture(scope="module")
def decoder():
    with decodekit.load("tagline", device="cpu", plugins=load_plugins(only=())) as decoder:
        yield decoder


def test_an_answer_is_that_of_the_decoder_and_is_remembered(decoder):
    talk = Conversation(decoder, "temperature=0.8", seed=3)
    first = "".join(talk.ask("Write a slogan."))
    assert first == decoder.generate("Write a slogan.", "temperature=0.8", seed=3).text
    second = "".join(talk.ask("Shorter."))
    messages = [
        {"role": "user", "content": "Write a slogan."},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "Shorter."},
    ]
    assert second == decoder.generate(messages, "temperature=0.8", seed=3).text


def test_again_is_the_next_sample_of_the_seed(decoder):
    talk = Conversation(decoder, "temperature=1")
    list(talk.ask("Write a slogan."))
    seed = talk.last.seed
    own = decoder.generate("Write a slogan.", "temperature=1", seed=seed, n=3)
    assert ["".join(talk.again()), "".join(talk.again())] == [own[1].text, own[2].text]
    assert len(talk.turns) == 1


def test_an_answer_cut_short_is_kept_as_far_as_it_was_read(decoder):
    talk = Conversation(decoder)
    pieces = talk.ask("Write a slogan.")
    first = next(pieces)
    pieces.close()
    assert talk.turns == [("Write a slogan.", first)] and talk.last is None
    assert talk.undo() == "Write a slogan." and not talk.turns
    with pytest.raises(ParameterError, match="nothing was said yet"):
        talk.undo()


def test_a_wrong_chain_is_told_at_once_and_changes_nothing(decoder):
    talk = Conversation(decoder, "greedy")
    with pytest.raises(UnknownNameError, match="did you mean 'top_p'"):
        talk.change(chain="topp=0.5")
    assert talk.chain == "greedy"


@pytest.mark.parametrize(
    "settings", [{"adapter": "none"}, {"length": 0}, {"length": 300}, {"seed": -1}, {"top": 21}]
)
def test_so_is_every_other_setting(decoder, settings):
    talk = Conversation(decoder, "temperature=1", seed=3)
    with pytest.raises(decodekit.DecodekitError):
        talk.change(chain="greedy", **settings)
    assert (talk.chain, talk.seed, talk.length, talk.adapter, talk.top) == (
        "temperature=1",
        3,
        None,
        None,
        None,
    )


def test_a_question_that_does_not_fit_is_not_remembered(decoder):
    talk = Conversation(decoder)
    with pytest.raises(decodekit.DecodekitError, match="context window"):
        list(talk.ask("word " * 300))
    assert not talk.turns


def chat(monkeypatch, capsys, lines, *words):
    monkeypatch.setenv("DECODEKIT_PLUGINS", "chat")
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    status = cli.main(["chat", "tagline", "--device", "cpu", *words])
    out, err = capsys.readouterr()
    return status, out, err


def test_lines_of_a_pipe(monkeypatch, capsys, decoder):
    lines = "Write a slogan.\n/chain temperature=1\n/seed 4\n/again\n/undo\nWrite a slogan.\n"
    lines += "/probabilities 2\n/again\n"
    status, out, err = chat(
        monkeypatch, capsys, lines + "/nothing\n/seed x\n/chain topp=1\n/help\n/quit\nnever\n"
    )
    assert status == 0 and "never" not in out
    answers = out.splitlines()
    assert answers[0] == decoder.generate("Write a slogan.").text
    assert answers[2] == decoder.generate("Write a slogan.", "temperature=1", seed=4).text
    assert "logprob" in out and "/probabilities N" in out
    assert [line.partition("]")[0] for line in err.splitlines() if line.startswith("error")] == [
        "error[E_PARAMETER", "error[E_PARAMETER", "error[E_UNKNOWN_NAME"
    ]  # fmt: skip


def test_a_command_nearly_right_is_told_the_right_one(monkeypatch, capsys):
    _, _, err = chat(monkeypatch, capsys, "/chian greedy\n/adapter none\n/nothing\n")
    near, adapter, far = [line for line in err.splitlines() if line.startswith("error")]
    assert "no command /chian; did you mean '/chain'?" in near
    assert "tagline has none named 'none'" in adapter
    assert all(line.word in far for line in LINES)


def test_help_has_what_chat_takes_and_nothing_else(monkeypatch, capsys):
    for words in (["--stop", "x"], ["--help"]):
        with pytest.raises(SystemExit) as ended:
            chat(monkeypatch, capsys, "", *words)
        out, _ = capsys.readouterr()
        assert ended.value.code == (0 if "--help" in words else 2)
    flags = set(re.findall(r"--[a-z-]+", out))
    assert flags == {
        "--help", "--debug", "--system", "--process", "--max-new-tokens",
        "--seed", "--adapter", "--device", "--threads",
    }  # fmt: skip


def test_the_page_has_the_table_of_commands():
    rows = [f"| `{line.usage}` | {line.effect} |" for line in LINES]
    assert "\n".join(rows) in (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_typed_into_a_terminal(monkeypatch, capsys, decoder):
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        pipe.send_text("Write a slogan.\r\x04")
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setenv("DECODEKIT_PLUGINS", "chat")
        assert cli.main(["chat", "tagline", "--device", "cpu"]) == 0
    assert decoder.generate("Write a slogan.").text in capsys.readouterr().out
