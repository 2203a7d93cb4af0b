from app.simulate.world.chance import bits, fraction, key_of, noise


def test_bits_are_those_of_splitmix64_when_the_key_is_0() -> None:
    # First outputs of the reference implementation (Vigna, splitmix64.c) for the seed 0.
    assert bits(0, 1) == 0xE220A8397B1DCDAF
    assert bits(0, 2) == 0x6E789E6AA1B965F4


def test_key_of_differs_when_different_parts_join_to_the_same_text() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")


def test_draws_fill_their_range_when_there_are_many() -> None:
    fractions = [fraction(1, number) for number in range(1_000)]
    noises = [noise(1, number) for number in range(1_000)]
    assert 0 <= min(fractions) < 0.01
    assert 0.99 < max(fractions) < 1
    assert -1 < min(noises) < -0.9
    assert 0.9 < max(noises) < 1
    assert abs(sum(noises) / 1_000) < 0.05
