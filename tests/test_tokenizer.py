import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from decodekit.detokenizer import DecodingDetokenizer
from decodekit.errors import TokenizerError
from decodekit.tokenizer import Tokenizer

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)


@pytest.fixture(scope="module")
def byte_fallback(tmp_path_factory):
    """The kind sentencepiece models have: a space is U+2581, unknown characters are bytes."""
    vocabulary = {"<unk>": 0, "<s>": 1, **{f"<0x{b:02X}>": 2 + b for b in range(256)}}
    for piece in ("▁", "a", "b", "▁a", "ab", "▁ab", "é"):
        vocabulary[piece] = len(vocabulary)
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b")]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    path = tmp_path_factory.mktemp("sp") / "tokenizer.json"
    tokenizer.save(str(path))
    return Tokenizer(path)


@pytest.fixture(scope="module")
def word_piece(tmp_path_factory):
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=60, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(["hello there , you all", "hello , world"] * 3, trainer)
    path = tmp_path_factory.mktemp("wp") / "tokenizer.json"
    tokenizer.save(str(path))
    return Tokenizer(path)


def test_a_token_is_spelled_by_its_text_its_name_or_its_bytes(byte_fallback, word_piece, tokenizer):
    """Different tokens look different, whatever a decoder does to a text of one token."""
    assert [byte_fallback.spell(byte_fallback.id(t)) for t in ("▁a", "a", "<s>")] == [" a", "a", "<s>"]
    assert byte_fallback.spell(byte_fallback.id("<0xC3>")) == "<0xC3>"
    assert word_piece.spell(word_piece.id("hello")) == "hello" and word_piece.bytes_of(0) is None
    assert "".join(map(tokenizer.spell, tokenizer.encode("猫"))) == "<0xE7><0x8C><0xAB>"
    assert (tokenizer.spell(tokenizer.size), tokenizer.bytes_of(tokenizer.size)) == ("", b"")


def streamed(tokenizer, ids):
    detokenizer = tokenizer.detokenizer()
    return "".join([*(detokenizer.push(i) for i in ids), detokenizer.flush()])


@settings(max_examples=200, deadline=None)
@given(text=TEXT)
def test_a_byte_level_text_comes_back_whole(tokenizer, text):
    assert streamed(tokenizer, tokenizer.encode_plain(text)) == text


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_byte_level_ids_stream_as_they_decode(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.size - 1), max_size=30))
    assert streamed(tokenizer, ids) == tokenizer.decode(ids)


@settings(max_examples=100, deadline=None)
@given(text=TEXT)
def test_a_byte_fallback_text_comes_back_whole(byte_fallback, text):
    text = text.replace("▁", " ")
    assert streamed(byte_fallback, byte_fallback.encode_plain(text)) == text


def test_a_text_that_continues_another_keeps_its_first_space(byte_fallback):
    detokenizer = byte_fallback.detokenizer(continues=True)
    assert "".join(map(detokenizer.push, byte_fallback.encode_plain("ab b"))) == " ab b"


def test_every_other_tokenizer_streams_as_it_decodes(word_piece):
    assert isinstance(word_piece.detokenizer(), DecodingDetokenizer)
    ids = word_piece.encode("hello there , you all hello , world" * 4)
    assert streamed(word_piece, ids) == word_piece.decode(ids)


def test_a_character_is_held_back_until_it_is_whole(tokenizer):
    detokenizer = tokenizer.detokenizer()
    ids = tokenizer.encode_plain("🦊")
    assert len(ids) > 1
    assert [detokenizer.push(i) for i in ids] == [""] * (len(ids) - 1) + ["🦊"]


def test_an_incomplete_character_at_the_end_becomes_one_replacement(tokenizer):
    detokenizer = tokenizer.detokenizer()
    assert detokenizer.push(tokenizer.encode_plain("🦊")[0]) == ""
    assert detokenizer.flush() == "\ufffd"


def test_special_token_text_is_special_only_where_asked(tokenizer):
    end = tokenizer.id("<|end|>")
    assert tokenizer.encode("a<|end|>")[-1] == end
    assert end not in tokenizer.encode_plain("a<|end|>")
    assert streamed(tokenizer, tokenizer.encode_plain("a<|end|>")) == "a<|end|>"


def test_the_prefix_is_what_the_tokenizer_adds_by_itself(tokenizer, byte_fallback):
    assert tokenizer.prefix == ()
    assert byte_fallback.prefix == (1,)


def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    for content in ("", "{", "[" * 200_000, '{"version": "1.0"}'):
        path.write_text(content)
        with pytest.raises(TokenizerError, match=r"tokenizer\.json: not a tokenizer"):
            Tokenizer(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TokenizerError, match="cannot be read"):
        Tokenizer(path)


def test_a_lone_surrogate_is_refused_with_its_place(tokenizer):
    with pytest.raises(TokenizerError, match="lone surrogate at character 2"):
        tokenizer.encode("ab\ud800")
