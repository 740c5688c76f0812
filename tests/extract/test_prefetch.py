"""Values made ahead in a thread: bounded, in order, and gone when the consumer leaves."""

import gc
import itertools
import threading
import time
import weakref

import pytest

from extract.prefetch import prefetch


class Value:
    """Something whose life can be watched."""

    def __init__(self, key):
        self.key = key


def threads():
    return [t for t in threading.enumerate() if t.name == "prefetch"]


@pytest.mark.parametrize("buffer", [0, 1, 2, 5])
def test_every_value_in_order(buffer):
    assert [v.key for v in prefetch(Value, range(20), buffer=buffer)] == list(range(20))
    assert not threads()


@pytest.mark.parametrize("buffer", [1, 2, 4])
def test_never_more_than_the_buffer_alive(buffer):
    alive, most = weakref.WeakSet(), 0
    seen = []

    def make(key):
        value = Value(key)
        alive.add(value)
        seen.append(len(alive))
        return value

    for value in prefetch(make, range(30), buffer=buffer):
        most = max(most, len(alive))
        if value.key < 3:
            time.sleep(0.05)  # long enough for the thread to run as far ahead as it may
            assert len(alive) == buffer
        del value
    assert max(most, *seen) == buffer


def test_the_next_value_is_made_while_the_consumer_works():
    made = threading.Event()
    values = prefetch(lambda key: made.set() if key else None, range(2), buffer=2)
    next(values)
    assert made.wait(5)
    values.close()


@pytest.mark.parametrize("buffer", [0, 1, 3])
def test_an_exception_comes_at_its_place(buffer):
    def make(key):
        if key == 2:
            raise OSError("no more")
        return key

    values = prefetch(make, itertools.count(), buffer=buffer)
    assert [next(values), next(values)] == [0, 1]
    with pytest.raises(OSError, match="no more"):
        next(values)
    assert not threads()


def test_an_exception_of_the_keys_reaches_the_consumer():
    def keys():
        yield 1
        raise ValueError("bad key")

    values = prefetch(Value, keys(), buffer=2)
    assert next(values).key == 1
    with pytest.raises(ValueError, match="bad key"):
        next(values)


@pytest.mark.parametrize("leave", ["close", "collect"])
@pytest.mark.parametrize("taken", [1, 3])
def test_leaving_early_stops_the_thread(leave, taken):
    values = prefetch(Value, itertools.count(), buffer=2)
    for _ in range(taken):
        next(values)
    assert threads()
    if leave == "close":
        values.close()
    else:
        del values
        gc.collect()
    assert not threads()
