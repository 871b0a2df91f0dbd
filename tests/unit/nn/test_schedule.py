import pytest

from helpers.each import each
from varsr_core.nn.schedule import ScaleSchedule

RELEASED = ScaleSchedule((1, 2, 3, 4, 6, 9, 13, 18, 24, 32))


@each("sides", [(), (2, 3), (1, 1), (1, 3, 2), (1, 2, 2, 4), (0, 1)])
def test_bad_schedules_are_refused(sides):
    with pytest.raises(ValueError, match="starts at side 1 and grows"):
        ScaleSchedule(sides)


def test_released_schedule_has_2240_tokens_on_10_scales():
    assert (RELEASED.num_tokens, RELEASED.num_scales, RELEASED.final_side) == (2240, 10, 32)
