from app.simulate.buffer import Buffer, Measurement


def make_reading(number: int, *metrics: str) -> Measurement:
    return Measurement("cellar", number, dict.fromkeys(metrics, 1.0))


def test_buffer_returns_the_oldest_first() -> None:
    buffer = Buffer(10)
    for number in range(3):
        buffer.add(make_reading(number, "temperature", "humidity"))
    assert [reading.time for reading in buffer.take(2)] == [0, 1]
    assert buffer.value_count == 2
    assert [reading.time for reading in buffer.take(2)] == [2]
    assert buffer.take(2) == []


def test_buffer_loses_the_oldest_when_it_is_full() -> None:
    buffer = Buffer(2)
    lost = [
        buffer.add(make_reading(0, "temperature", "humidity")),
        buffer.add(make_reading(1, "temperature")),
        buffer.add(make_reading(2, "temperature")),
        buffer.add(make_reading(3, "temperature")),
    ]
    assert lost == [0, 0, 2, 1]
    assert [reading.time for reading in buffer.take(9)] == [2, 3]
