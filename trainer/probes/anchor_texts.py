"""Some pages of plain English and code, written for this: what a model that can read and write should go on finding natural."""

from __future__ import annotations

_HARBOUR = """\
The harbour wakes before the town does. At four the first boats come in, low in the water, and the men on the quay catch the
ropes without a word, because there is nothing to say that has not been said every morning for thirty years. Crates of ice
are stacked against the wall. A gull walks up and down beside them like a foreman. By the time the bakery opens its shutters
the fish has been sold, the deck has been washed, and the crews sit in the small cafe at the corner with both hands around
their cups. They talk about the wind, about a cousin who has moved to the city, and about the new ferry, which is faster than
the old one and breaks down twice as often.
"""

_SEASONS = """\
Many people believe that it is warm in summer because the Earth is then closer to the Sun. In fact the northern half of the
planet has its summer when the distance is greatest. What makes the seasons is the tilt of the axis: for one half of the year
the north leans towards the Sun, so that light falls on it more steeply and for more hours each day; for the other half it
leans away. Near the equator the angle hardly changes, and so the months there differ by how much rain they bring rather than
by their temperature.
"""

_BREAD = """\
To bake a simple loaf you need 500 grams of flour, 350 grams of water, 10 grams of salt and a little yeast. Mix the flour and
the water first and let them rest for half an hour; this makes the dough easier to handle. Then add the salt and the yeast,
fold the dough a few times, cover the bowl, and leave it in a warm place until it has doubled in size. Shape it gently, let
it rise once more, and bake it in a hot oven for about forty minutes. The bread is ready when it sounds hollow as you knock
on its underside.
"""

_LETTER = """\
Dear Ms Okafor,

thank you for your letter of 3 May. I am sorry that the lamp you ordered arrived with a crack in its shade. We have sent you a new
one today, and you should have it by Thursday at the latest. There is no need to return the broken one. If the replacement is not
to your liking either, please let me know, and we will pay back the full price.

Kind regards,
Daniel Brandt
Customer Service
"""

_MARKET = """\
"How much are the pears?" asked the woman.
"Two for one coin, five for two," said the boy behind the table. He was not older than ten, and he counted the change twice before
he gave it away.
"That is odd," she said. "If I buy four, I pay as much as for five. Does nobody notice?"
"Everybody notices," said the boy. "That is why nobody ever buys four."
"""

_SCIENCE = """\
A thermometer does not measure how warm the air is; it measures how warm the thermometer is. Left in the sun it shows more
than the air around it has, because the glass takes in light that passes through the air. This is why weather stations keep
their instruments in a white box with slatted sides, at the height of a person's head, above short grass. Measurements that
are made in the same way everywhere can be compared, and a comparison is usually worth more than a single exact value.
"""

_LIST = """\
# Before you leave the house

1. Turn off the stove and check the windows.
2. Water the plants that stand in the kitchen.
3. Take out the rubbish, paper and glass in separate bags.
4. Put the spare key under the blue pot, not under the red one.
5. Write down the number of the neighbour who feeds the cat.
"""

_PYTHON = '''\
def median(values):
    """The middle of the sorted values, or the mean of the two in the middle."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    half = len(ordered) // 2
    if len(ordered) % 2 == 1:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) / 2


class Stack:
    def __init__(self):
        self._items = []

    def push(self, item):
        self._items.append(item)

    def pop(self):
        if not self._items:
            raise IndexError("the stack is empty")
        return self._items.pop()

    def __len__(self):
        return len(self._items)
'''

_JAVASCRIPT = """\
async function loadUsers(url, limit = 20) {
  const response = await fetch(`${url}?limit=${limit}`);
  if (!response.ok) {
    throw new Error(`request failed with status ${response.status}`);
  }
  const users = await response.json();
  return users
    .filter((user) => user.active)
    .map((user) => ({ id: user.id, name: user.name.trim() }));
}
"""

_C = """\
#include <stdio.h>

int main(void) {
    int sum = 0;
    for (int i = 1; i <= 100; i++) {
        if (i % 3 == 0 || i % 5 == 0) {
            sum += i;
        }
    }
    printf("The sum is %d\\n", sum);
    return 0;
}
"""

_SQL = """\
SELECT customers.name, COUNT(orders.id) AS order_count, SUM(orders.total) AS revenue
FROM customers
LEFT JOIN orders ON orders.customer_id = customers.id
WHERE orders.created_at >= '2024-01-01'
GROUP BY customers.name
HAVING COUNT(orders.id) > 3
ORDER BY revenue DESC
LIMIT 10;
"""

_CONFIG = """\
{
  "name": "example-service",
  "port": 8080,
  "database": {"host": "localhost", "pool_size": 10, "timeout_seconds": 30},
  "features": ["search", "export"],
  "debug": false
}
"""

TEXTS = (_HARBOUR, _SEASONS, _BREAD, _LETTER, _MARKET, _SCIENCE, _LIST, _PYTHON, _JAVASCRIPT, _C, _SQL, _CONFIG)
