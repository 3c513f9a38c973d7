import pytest
from english import agree, gerund, is_plural, sentences


@pytest.mark.parametrize(
    ("filled", "tidy"),
    [
        ("a  elegant line. a hour", "An elegant line. An hour"),
        ("every unicorn needs a unicorn", "Every unicorn needs a unicorn"),
        ("a heirloom! a honest one", "An heirloom! An honest one"),
        ("a one-of-a-kind gem", "A one-of-a-kind gem"),
    ],
)
def test_a_filled_template_is_tidied(filled, tidy):
    assert sentences(filled) == tidy


def test_a_choice_of_verb_form_is_closed_by_number():
    assert agree("{goods} feel|feels like home.", plural=True) == "{goods} feel like home."
    assert agree("{goods} feel|feels like home.", plural=False) == "{goods} feels like home."


@pytest.mark.parametrize("phrase", ["warm croissants", "healthy teeth", "good news stories"])
def test_a_phrase_is_plural_by_its_last_word(phrase):
    assert is_plural(phrase)


@pytest.mark.parametrize("phrase", ["fresh bread", "streak-free glass", "trusted news"])
def test_a_mass_noun_is_not_plural(phrase):
    assert not is_plural(phrase)


@pytest.mark.parametrize(
    ("verb", "ing"),
    [("sip", "sipping"), ("bake", "baking"), ("see", "seeing"), ("relax", "relaxing"), ("steep", "steeping")],
)
def test_a_gerund_follows_the_spelling_rules(verb, ing):
    assert gerund(verb) == ing
