"""A class has one meaning, whether it is a concept or names a latent."""

from extract.alphabet import AMINO_ACIDS
from probes.data.amino_acid_classes import NAMING, PUBLISHED


def test_equal_names_are_equal_letters_and_the_other_way_round():
    classes = [*PUBLISHED.items(), *NAMING.items()]
    for letters in (PUBLISHED, NAMING):
        assert len({frozenset(x) for x in letters.values()}) == len(letters)
    for name, letters in classes:
        assert set(letters) <= set(AMINO_ACIDS)
        assert list(letters) == sorted(set(letters))
        for other, others in classes:
            assert (name == other) == (letters == others), (name, other)
