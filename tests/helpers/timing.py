"""For tests of how fast something ends."""

import pytest

# Something else may have had the processor for a moment: once more, and told in the summary. What
# is slow in itself is slow both times.
timed = pytest.mark.flaky(reruns=1)
