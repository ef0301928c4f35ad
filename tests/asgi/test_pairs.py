"""Whether few cases are enough of them."""

from itertools import combinations, product

import pytest

from tests.asgi.pairs import in_pairs

SIZES = [(2,), (3, 2), (2, 2, 2), (8, 8, 2, 2), (2, 5, 6, 2, 2), (3, 3, 3, 3)]


@pytest.mark.parametrize("sizes", SIZES)
def test_each_pair_meets(sizes: tuple[int, ...]) -> None:
    """Each two values of two axes are in one of the cases, of which there are few."""
    axes = [[f"{axis}{number}" for number in range(size)] for axis, size in enumerate(sizes)]
    marks = [pytest.mark.parametrize(str(axis), values) for axis, values in enumerate(axes)]
    names, cases = in_pairs(*marks).args
    axes.append(["asyncio", "trio"])
    assert len(names) == len(axes)
    met = {pair for case in cases for pair in combinations(case, 2)}
    for one, other in combinations(axes, 2):
        assert set(product(one, other)) <= met
    longest = sorted(map(len, axes))[-2:]
    assert len(cases) <= 2 * longest[0] * longest[1]
