"""Memory that is shared out before it is used."""

from __future__ import annotations

import asyncio
from collections import deque


class Budget:
    """An amount that many share, given out in the order of asking. More than all of it goes to one alone, once nobody
    else holds any. Belongs to one event loop."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, amount: int) -> None:
        """Waits until the amount is free."""
        if not self._waiting and self._fits(amount):
            self.held += amount
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it came in the same moment
                self.give_back(amount)
            raise

    def give_back(self, amount: int) -> None:
        """What take() gave; wakes whose turn it is."""
        self.held -= amount
        while self._waiting:
            wanted, turn = self._waiting[0]
            if not turn.done():
                if not self._fits(wanted):
                    return
                self.held += wanted
                turn.set_result(None)
            self._waiting.popleft()

    def _fits(self, amount: int) -> bool:
        return self.held == 0 or self.held + amount <= self.total
