import pytest

from helpers.each import each
from varsr_core.nn.guidance import (
    CLASS_TO_IMAGE,
    GUIDANCE_SCHEDULES,
    guidance_ratios,
    parsed_list,
)


@each(
    ("rule", "ratios"),
    [
        ("linear", [0, 1 / 3, 2 / 3, 1]),
        ("quadratic", [0, 1 / 9, 4 / 9, 1]),
        ("constant", [1, 1, 1, 1]),
        (CLASS_TO_IMAGE, [1 / 3, 2 / 3, 1, 4 / 3]),
        ("0, 0.5, 1 x ...", [0, 0.5, 1, 1]),
        ("0 x 2, .5 x 2", [0, 0, 0.5, 0.5]),
        ("1,2,3,4", [1, 2, 3, 4]),
        (" 1e-1 x3 , 2 ", [0.1, 0.1, 0.1, 2]),
        ("1 x 4, 0 x ...", [1, 1, 1, 1]),
        ("0.25 \u00d7 \u2026", [0.25] * 4),
    ],
)
def test_guidance_grows_as_its_rule_or_list_says(rule, ratios):
    assert guidance_ratios(4, rule) == pytest.approx(ratios)


@pytest.mark.parametrize("rule", [*GUIDANCE_SCHEDULES, CLASS_TO_IMAGE])
def test_every_rule_is_a_list(rule):
    """To the bit: there is one way from ratios to logits."""
    ratios = guidance_ratios(10, rule)
    assert guidance_ratios(10, ", ".join(map(repr, ratios))) == ratios


@each("unguided", range(6))
def test_last_scales_without_guidance_are_a_list_that_ends_in_noughts(unguided):
    found = guidance_ratios(4, "constant", unguided)
    guided = max(0, 4 - unguided)
    assert found == (1.0,) * guided + (0.0,) * (4 - guided)


def test_class_to_image_is_guided_from_the_first_scale_on():
    found = guidance_ratios(12, CLASS_TO_IMAGE)
    assert found == pytest.approx([(k + 1) / 11 for k in range(12)])
    assert CLASS_TO_IMAGE not in GUIDANCE_SCHEDULES


@pytest.mark.parametrize("rule", GUIDANCE_SCHEDULES)
def test_guidance_is_whole_at_the_last_scale(rule):
    assert guidance_ratios(10, rule)[9] == 1.0
    assert guidance_ratios(1, rule) == (1.0,)


@each(
    ("text", "told"),
    [
        ("cubic", "entry 1 is 'cubic'"),
        ("", "entry 1 is ''"),
        ("0, , 1", "entry 2 is ''"),
        ("0, -1", "entry 2 is '-1'"),
        ("nan", "entry 1 is 'nan'"),
        ("1e999", "entry 1 is '1e999'"),
        ("1e", "entry 1 is '1e'"),
        ("0 x 0, 1", "entry 1 is '0 x 0'"),
        ("0 x ..., 1", "only the last one may fill up the rest"),
        ("0 x 99999999999999", "more than 64 scales"),
        ("0 0.5 1", "entry 1 is '0 0.5 1'"),
    ],
)
def test_what_is_no_list_is_refused_by_its_entry(text, told):
    with pytest.raises(ValueError, match=told):
        parsed_list(text)


@each("text", ["0, 1", "1 x 5", "1 x 5, 0 x ..."])
def test_a_list_of_another_length_is_refused_with_both_numbers(text):
    with pytest.raises(ValueError, match=r"it lists \d scales; the model has 4"):
        guidance_ratios(4, text)
