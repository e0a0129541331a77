from collector.continuity import Continuity
from collector.gaps import Gaps, Hole
from collector.metrics import Metrics
from collector.receiver import Receiver
from collector.settings import Settings
from collector.spool import Spool

VARIABLES = {"EXCHANGE": "KRAKEN", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "TTY"}


async def test_a_question_that_is_open_at_the_stop_is_left_to_the_next_process(tmp_path):
    spool = await Spool.open(tmp_path)
    receiver = Receiver(Settings.read(VARIABLES | {"SPOOL_DIR": str(tmp_path)}), spool, Metrics())
    gaps = Gaps("KRAKEN", receiver)
    continuity = Continuity(spool, receiver, gaps, lambda _: True)
    gaps.take_up({("trades", "BTC-USD"): Hole(1.0, "killed")}, [])
    gaps.end(("trades", "BTC-USD"), 2.0)
    await continuity.stop()
    continuity.meet("test", {})
    assert continuity.asking  # an answer would not be saved any more
    assert continuity.note(spool.end, good_for=1.0) is None
    await spool.close()


async def test_a_damaged_note_is_told_of_and_ignored(tmp_path, caplog):
    spool = await Spool.open(tmp_path)
    receiver = Receiver(Settings.read(VARIABLES | {"SPOOL_DIR": str(tmp_path)}), spool, Metrics())
    gaps = Gaps("KRAKEN", receiver)
    continuity = Continuity(spool, receiver, gaps, lambda _: True)
    gaps.take_up({("trades", "BTC-USD"): Hole(1.0, "killed")}, [])
    gaps.end(("trades", "BTC-USD"), 2.0)
    for _ in range(2):
        continuity.meet("test", {"test": '{"exchange":"KRAK', "other": '{"exchange": 7}'})
    assert not continuity.asking  # what the spool knows has answered
    assert [gap.reason for gap in receiver._records] == ["killed"]
    told = [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
    assert len(told) == 2
    assert "collector test" in told[0]
    await spool.close()
