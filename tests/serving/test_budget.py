from __future__ import annotations

import asyncio

from facekit.serving.budget import Budget


def test_it_is_given_out_in_order_and_never_exceeded() -> None:
    async def main() -> list[int]:
        budget, order, most = Budget(10), [], 0

        async def use(index: int, amount: int) -> None:
            nonlocal most
            await budget.take(amount)
            order.append(index)
            most = max(most, budget.held)
            await asyncio.sleep(0.01)
            budget.give_back(amount)

        await asyncio.gather(*(use(index, amount) for index, amount in enumerate([6, 6, 4, 3, 10, 1])))
        assert budget.held == 0 and most <= 10
        return order

    assert asyncio.run(main()) == [0, 1, 2, 3, 4, 5]  # the small ones don't overtake: nobody starves


def test_too_much_goes_alone() -> None:
    async def main() -> None:
        budget = Budget(10)
        await budget.take(3)
        large = asyncio.create_task(budget.take(99))
        await asyncio.sleep(0)
        assert not large.done()
        budget.give_back(3)
        await large
        assert budget.held == 99
        budget.give_back(99)
        assert budget.held == 0

    asyncio.run(main())


def test_who_stops_waiting_holds_nothing() -> None:
    async def main() -> None:
        budget = Budget(10)
        await budget.take(10)
        waiting = [asyncio.create_task(budget.take(5)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        budget.give_back(10)
        waiting[1].cancel()  # its turn has come, but it has not heard of it
        await asyncio.gather(*waiting, return_exceptions=True)
        assert budget.held == 5
        budget.give_back(5)
        assert budget.held == 0

    asyncio.run(main())
