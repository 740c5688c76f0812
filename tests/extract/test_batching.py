import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from extract.batching import proteins_of_rows, token_batches


def test_proteins_of_rows_by_hand():
    offsets = np.array([0, 3, 5, 9])
    assert proteins_of_rows(offsets, 0, 3) == range(0, 1)
    assert proteins_of_rows(offsets, 2, 4) == range(0, 2)
    assert proteins_of_rows(offsets, 3, 5) == range(1, 2)
    assert proteins_of_rows(offsets, 4, 9) == range(1, 3)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30), budget=st.integers(1, 60))
def test_batches_keep_order_and_budget(lengths, budget):
    batches = list(token_batches(range(len(lengths)), lengths, budget))
    assert [i for batch in batches for i in batch] == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[i] for i in batch) <= budget


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30), data=st.data())
def test_proteins_of_rows_owns_every_row(lengths, data):
    offsets = np.cumsum([0, *lengths])
    start = data.draw(st.integers(0, int(offsets[-1]) - 1))
    stop = data.draw(st.integers(start + 1, int(offsets[-1])))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    assert list(proteins_of_rows(offsets, start, stop)) == sorted(set(owner[start:stop]))
