import pytest

from helpers.each import each
from varsr_core.nn.schedule import GUIDANCE_SCHEDULES, ScaleSchedule

RELEASED = ScaleSchedule((1, 2, 3, 4, 6, 9, 13, 18, 24, 32))


@each("sides", [(), (2, 3), (1, 1), (1, 3, 2), (1, 2, 2, 4), (0, 1)])
def test_bad_schedules_are_refused(sides):
    with pytest.raises(ValueError, match="starts at side 1 and grows"):
        ScaleSchedule(sides)


def test_released_schedule_has_2240_tokens_on_10_scales():
    assert (RELEASED.num_tokens, RELEASED.num_scales, RELEASED.final_side) == (2240, 10, 32)


@each(
    ("schedule", "ratios"),
    [
        ("linear", [0, 1 / 3, 2 / 3, 1]),
        ("quadratic", [0, 1 / 9, 4 / 9, 1]),
        ("constant", [1, 1, 1, 1]),
    ],
)
def test_guidance_grows_as_its_schedule_says(schedule, ratios):
    found = [ScaleSchedule((1, 2, 3, 4)).guidance_ratio(k, schedule) for k in range(4)]
    assert found == pytest.approx(ratios)


def test_guidance_grows_linearly_by_default():
    found = [RELEASED.guidance_ratio(k) for k in range(10)]
    assert found == pytest.approx([k / 9 for k in range(10)])


@pytest.mark.parametrize("schedule", GUIDANCE_SCHEDULES)
def test_guidance_is_whole_at_the_last_scale(schedule):
    assert RELEASED.guidance_ratio(9, schedule) == 1.0
    assert ScaleSchedule((1,)).guidance_ratio(0, schedule) == 1.0


def test_unknown_guidance_schedule_is_refused():
    with pytest.raises(ValueError, match="cubic"):
        RELEASED.guidance_ratio(0, "cubic")
