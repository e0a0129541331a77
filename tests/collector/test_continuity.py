from reported import Reported

from collector.continuity import Continuity
from collector.gaps import Gaps, Hole
from collector.spool import Spool


async def test_a_question_that_is_open_at_the_stop_is_left_to_the_next_process(tmp_path):
    spool, recorder = await Spool.open(tmp_path), Reported()
    gaps = Gaps("KRAKEN", recorder)
    continuity = Continuity(spool, recorder, gaps)
    gaps.take_up({("trades", "BTC-USD"): Hole(1.0, "killed")}, [])
    gaps.end(("trades", "BTC-USD"), 2.0)
    await continuity.stop()
    continuity.meet("test", {})
    assert not recorder  # nobody would save it any more
    assert continuity.asking
    assert continuity.note(spool.end, good_for=1.0) is None
    await spool.close()
