"""The application of the demo: a shop of three services, as SQLAlchemy users write them.

checkout and catalog share the pooler where there is one; reporting needs a session of its
own, so it connects directly, as reports do. Every service has one engine, made once, with
the settings that Headroom's documentation recommends.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import Any

import psycopg
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

ENGINE_SETTINGS: dict[str, Any] = {
    "pool_size": 8,
    "max_overflow": 4,
    "pool_timeout": 20,  # seconds
    "pool_recycle": 1800,  # seconds
    "pool_pre_ping": True,
}
POPULAR = 30  # orders are for the products 1..POPULAR, so that some of them meet
HOT = 5  # the products 1..HOT are in every second order
SHIPPING_SECONDS = 0.02
CHANCE = random.Random()  # noqa: S311  (whom a request is for is no secret)
_STOP_SECONDS = 2.0  # that requests have to end; one that waits for a dead server never does


class Failures:
    """What the application was told when it got no connection or no answer, counted by text."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._texts: Counter[str] = Counter()

    def add(self, error: Exception) -> None:
        """Count one failed request."""
        with self._lock:
            self._texts[_short(error)] += 1

    def take(self) -> dict[str, int]:
        """The counts since the last call, most frequent first."""
        with self._lock:
            texts, self._texts = self._texts, Counter()
        return dict(texts.most_common())


@dataclass(frozen=True, slots=True)
class Shop:
    """Where the shop's database answers, on loopback. pooler_port is None without a pooler."""

    server_port: int
    pooler_port: int | None

    def engine(self, application: str, *, direct: bool = False, **settings: Any) -> Engine:
        """A pool of connections as one process of *application* has it; *direct* goes round
        the pooler, *settings* replace those of ENGINE_SETTINGS."""
        connect_args: dict[str, Any] = {"application_name": application, "connect_timeout": 10}
        port = self.server_port
        if self.pooler_port is not None and not direct:
            port = self.pooler_port
            # A pooler in transaction mode gives the next transaction to another server
            # connection, where a statement prepared earlier does not exist.
            connect_args["prepare_threshold"] = None
        url = URL.create(
            "postgresql+psycopg", username="app", host="127.0.0.1", port=port, database="shop"
        )
        return create_engine(
            url,
            connect_args=connect_args,
            use_native_hstore=False,
            **(settings or ENGINE_SETTINGS),
        )

    def dsn(self, application: str) -> str:
        """A libpq connection string that goes round the pooler."""
        return (
            f"host=127.0.0.1 port={self.server_port} user=app dbname=shop "
            f"connect_timeout=10 application_name={application}"
        )


def create_schema(shop: Shop) -> None:
    """Fill the empty database."""
    script = (Path(__file__).parent / "schema.sql").read_bytes()
    with psycopg.connect(shop.dsn("setup")) as connection:
        connection.execute(script)


def place_order(engine: Engine) -> None:
    """One checkout: an order with its items; the stock goes down. Some 30 ms."""
    products = set(CHANCE.sample(range(HOT + 1, POPULAR + 1), CHANCE.randint(1, 2)))
    if CHANCE.random() < 0.5:
        products.add(CHANCE.randint(1, HOT))
    with engine.begin() as connection:
        order = connection.execute(
            text("INSERT INTO orders (customer_id) VALUES (:customer) RETURNING id"),
            {"customer": CHANCE.randint(1, 1000)},
        ).scalar_one()
        # The application works out the shipping. Until it has, the session is idle in
        # transaction, as in most real applications: short, often, and harmless.
        sleep(SHIPPING_SECONDS)
        # Always in the same order, or two checkouts would deadlock.
        for product in sorted(products, reverse=True):
            connection.execute(
                text("UPDATE products SET stock = stock - 1 WHERE id = :product"),
                {"product": product},
            )
            connection.execute(
                text(
                    "INSERT INTO order_items (order_id, product_id, quantity, price) "
                    "SELECT :order, id, 1, price FROM products WHERE id = :product"
                ),
                {"order": order, "product": product},
            )


def browse(engine: Engine) -> None:
    """One catalog page: the products of a category, and one of them."""
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT id, name, price FROM products WHERE category = :category "
                "ORDER BY price LIMIT 20"
            ),
            {"category": CHANCE.choice(("garden", "kitchen", "books", "toys", "music"))},
        ).all()
        connection.execute(
            text("SELECT name, price, stock FROM products WHERE id = :product"),
            {"product": CHANCE.randint(1, 200)},
        ).one()


def report(engine: Engine) -> None:
    """One report: revenue by country and category. Some ten milliseconds."""
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT c.country, p.category, sum(i.quantity * i.price) "
                "FROM order_items AS i JOIN orders AS o ON o.id = i.order_id "
                "JOIN customers AS c ON c.id = o.customer_id "
                "JOIN products AS p ON p.id = i.product_id "
                "WHERE o.ordered_at > now() - interval '14 days' GROUP BY 1, 2"
            )
        ).all()


class Workload:
    """The three services and their users: some 65 requests a second."""

    def __init__(self, shop: Shop, failures: Failures) -> None:
        self._failures = failures
        self._over = Event()
        self._engines = {
            "checkout": shop.engine("checkout"),
            "catalog": shop.engine("catalog"),
            "reporting": shop.engine("reporting", direct=True),
        }
        self._threads = [
            Thread(target=self._serve, args=(service, request, think_seconds), daemon=True)
            for service, request, think_seconds, users in (
                ("checkout", place_order, 0.25, 4),
                ("catalog", browse, 0.12, 6),
                ("reporting", report, 1.5, 2),
            )
            for _ in range(users)
        ]

    def start(self) -> None:
        """Let the users come."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End every request and give every connection back."""
        self._over.set()
        deadline = monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        for engine in self._engines.values():
            engine.dispose()

    def _serve(self, service: str, request: Callable[[Engine], None], think_seconds: float) -> None:
        keep_requesting(
            lambda: request(self._engines[service]), think_seconds, self._over, self._failures
        )


def keep_requesting(
    request: Callable[[], None], think_seconds: float, over: Event, failures: Failures
) -> None:
    """Send one request after another, with time to think between them, until it is *over*."""
    while not over.wait(CHANCE.expovariate(1 / think_seconds)):
        try:
            request()
        except (DBAPIError, PoolTimeoutError) as error:
            failures.add(error)
            over.wait(0.5)


def _short(error: Exception) -> str:
    """The telling line of a driver's or pool's error, without address and port."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    telling = next((line for line in lines if "FATAL" in line or "ERROR" in line), "")
    if telling:
        return telling[max(telling.find("FATAL"), telling.find("ERROR"), 0) :]
    first = lines[0] if lines else type(cause).__name__
    return first.split(" (Background")[0]
