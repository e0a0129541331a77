from collector.exchanges.asked import REMEMBERED, Asked


def test_the_last_requests_are_remembered_for_any_number_of_answers():
    asked = Asked()
    for number in range(1, REMEMBERED + 3):
        asked.put(number, [f"topic {number}"])
    assert asked.of(1) == asked.of(2) == ()
    assert asked.of(3) == asked.of("3") == asked.of(3) == ("topic 3",)
    assert asked.of(REMEMBERED + 2) == (f"topic {REMEMBERED + 2}",)
    assert asked.pop("3") == ("topic 3",)
    assert asked.of(3) == ()


def test_an_answer_without_a_number_is_about_nothing():
    asked = Asked()
    asked.put(1, ["topic"])
    assert asked.of(None) == asked.of("") == asked.of(2) == asked.pop(None) == ()
