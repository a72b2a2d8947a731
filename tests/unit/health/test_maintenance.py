import asyncio

from supervisor.health.maintenance import CODE, Maintenance
from supervisor.health.problems import Problems
from tests.support.clock import FakeClock


async def test_it_is_a_problem_for_all_to_see_while_it_is_on() -> None:
    clock = FakeClock()
    problems = Problems(clock)
    maintenance = Maintenance(clock, problems)
    assert not maintenance.on
    await asyncio.wait_for(maintenance.over(), 1)
    began = clock.time()
    maintenance.begin("a look at its memory")
    await clock.advance(5)
    maintenance.begin("another look")
    [problem] = problems.current()
    assert (problem.code, problem.since) == (CODE, began)
    assert "another look" in problem.message
    assert (maintenance.on, maintenance.since) == (True, began)
    waiting = asyncio.ensure_future(maintenance.over())
    await asyncio.sleep(0)
    assert not waiting.done()
    maintenance.end()
    await asyncio.wait_for(waiting, 1)
    assert CODE not in problems
    assert (maintenance.on, maintenance.reason) == (False, "")
