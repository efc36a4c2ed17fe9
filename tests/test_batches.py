import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sknonlin.batches import make_batches, make_reference_batches


@given(
    codes=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    batch_size=st.integers(1, 20),
    n_batches=st.integers(1, 4),
    by_class=st.booleans(),
)
def test_batches_of_any_labels(codes, batch_size, n_batches, by_class):
    codes = np.array(codes)
    settings = {"by_class": by_class, "random_state": 0}
    batches = make_batches(codes, batch_size, n_batches, **settings)
    again = make_batches(codes, batch_size, n_batches, **settings)
    assert len(batches) == (codes.max() + 1 if by_class else 1)
    for label, (own, same) in enumerate(zip(batches, again, strict=True)):
        members = np.flatnonzero(codes == label) if by_class else np.arange(len(codes))
        assert len(own) == n_batches
        for batch, repeated in zip(own, same, strict=True):
            assert np.array_equal(batch, repeated)
            assert len(batch) == min(batch_size, len(members))
            assert len(set(batch)) == len(batch)
            assert set(batch) <= set(members)
        if n_batches * batch_size <= len(members):
            assert len(set(np.concatenate(own))) == n_batches * batch_size


def test_a_class_has_the_same_batches_without_the_others():
    codes = np.repeat([0, 1, 2], 30)
    alone = make_batches(codes[:30], 10, 2, random_state=0)[0]
    among = make_batches(codes, 10, 2, random_state=0)[0]
    assert np.array_equal(alone, among)


def test_reference_batches_have_the_sizes_of_the_classes():
    codes = np.repeat([0, 1], [30, 4])
    batches = make_reference_batches(codes, 10, 3, random_state=0)
    assert [[len(batch) for batch in own] for own in batches] == [[10] * 3, [4] * 3]
    assert set(np.concatenate(batches[1])) - {30, 31, 32, 33}
