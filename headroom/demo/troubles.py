"""How each scenario makes its trouble for real.

Every trouble is a function that works until *over* is set, and returns when nothing of it
is left: no thread, no connection, no open transaction. The three services of the workload
go on meanwhile and suffer as bystanders do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from secrets import token_hex
from threading import Event, Thread
from time import monotonic
from typing import Protocol

import psycopg
from sqlalchemy import Connection, Engine, NullPool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from headroom.demo.workload import (
    CHANCE,
    ENGINE_SETTINGS,
    HOT,
    Failures,
    Shop,
    keep_requesting,
    place_order,
)

Trouble = Callable[[Shop, Event, Failures], None]

# small-pool: with 10 server connections, 40 clients and a payment of 0.9 s, a client waits
# some 30 / 10 × 0.9 s ≈ 3 s; while the payment provider is slow, 6 to 7 s.
SALE_CLIENTS = 40
PAYMENT_SECONDS = 0.9
SLOW_PAYMENT_SECONDS = 2.2
SLOW_EVERY_SECONDS, SLOW_FOR_SECONDS = 24.0, 10.0

LEAK_EVERY_SECONDS = 0.7
LEAK_PROCESSES = 5  # each may take 12 connections: together more than the server has

BLOCKED_CLIENTS = 8

CHURN_THREADS = 5
CHURN_THINK_SECONDS = 0.03

BURST_CLIENTS = 56
BURST_EVERY_SECONDS = 6.0
BURST_HOLD_SECONDS = 2.0

# A stocktaking that looks at 1,400 items one by one and takes some 35 s, most of it waiting,
# so that a laptop stays cool.
STOCKTAKING = text(
    "SELECT sum(i.quantity * i.price), max(sold.pieces) "
    "FROM (SELECT * FROM order_items ORDER BY id LIMIT 1400) AS i "
    "CROSS JOIN LATERAL pg_sleep(0.024 * sign(i.quantity)) "
    "CROSS JOIN LATERAL (SELECT sum(s.quantity) AS pieces FROM order_items AS s "
    "WHERE s.product_id = i.product_id) AS sold"
)


def small_pool(shop: Shop, over: Event, failures: Failures) -> None:
    """A sale: each checkout keeps its transaction open while it waits for the payment.

    Without a pooler the queue is in the application: its engine may have four connections.
    """
    began = monotonic()

    def pay(engine: Engine) -> None:
        with engine.begin() as connection:
            connection.execute(text("SELECT price FROM products WHERE id = 7")).one()
            phase = (monotonic() - began) % SLOW_EVERY_SECONDS
            provider_is_slow = phase > SLOW_EVERY_SECONDS - SLOW_FOR_SECONDS
            seconds = SLOW_PAYMENT_SECONDS if provider_is_slow else PAYMENT_SECONDS
            over.wait(CHANCE.uniform(0.6, 1.4) * seconds)
            connection.execute(text("INSERT INTO orders (customer_id) VALUES (7)"))

    if shop.pooler_port is None:
        engines = [shop.engine("flash-sale", pool_size=4, max_overflow=0, pool_timeout=5)]
        clients = 16
    else:
        # Behind a busy pooler a ping waits as long as the request; this service goes without.
        settings = {**ENGINE_SETTINGS, "pool_pre_ping": False}
        engines = [shop.engine("flash-sale", **settings) for _ in range(4)]
        clients = SALE_CLIENTS

    def buy(engine: Engine) -> None:
        keep_requesting(lambda: pay(engine), 0.05, over, failures)

    with _disposed(*engines), _threads() as start:
        for number in range(clients):
            start(buy, engines[number % len(engines)])


def leak(shop: Shop, over: Event, failures: Failures) -> None:
    """A bug: connections are taken out of the pool, a transaction begins, and nobody returns
    them. It ends when the last slot is gone; from then on everybody is refused."""
    engines = [shop.engine("invoices", direct=True) for _ in range(LEAK_PROCESSES)]
    never_returned: list[Connection] = []
    requests = 0
    with _disposed(*engines):
        while not over.wait(LEAK_EVERY_SECONDS):
            engine = engines[requests % len(engines)]
            requests += 1
            try:
                connection = engine.connect()
                never_returned.append(connection)
                connection.execute(text("SELECT status FROM orders WHERE id = 42")).one()
            except (DBAPIError, PoolTimeoutError) as error:
                failures.add(error)
        for connection in never_returned:
            with contextlib.suppress(DBAPIError):
                connection.close()


def slow(shop: Shop, over: Event, failures: Failures) -> None:
    """A stocktaking updates the bestsellers first and then computes for half a minute in the
    same transaction. Checkouts of those products wait for it, and others wait for them."""
    stocktaking = shop.engine("stocktaking", direct=True)
    checkout = shop.engine("checkout")
    running: list[psycopg.Connection[tuple[object, ...]]] = []

    def take_stock() -> None:
        with stocktaking.begin() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            running[:] = [driver]
            try:
                connection.execute(
                    text("UPDATE products SET stock = stock + 50 WHERE id <= :hot"), {"hot": HOT}
                )
                if not over.is_set():
                    connection.execute(STOCKTAKING)
            finally:
                running.clear()

    def keep_taking_stock() -> None:
        while not over.wait(2.0):
            try:
                take_stock()
            except DBAPIError as error:
                if not over.is_set():
                    failures.add(error)

    with _disposed(stocktaking, checkout), _threads() as start:
        for _ in range(BLOCKED_CLIENTS):
            start(lambda: keep_requesting(lambda: place_order(checkout), 0.3, over, failures))
        worker = start(keep_taking_stock)
        over.wait()
        while worker.is_alive():
            # Asked again: a cancel that arrives between two statements does nothing.
            for driver in running:
                with contextlib.suppress(psycopg.Error):
                    driver.cancel_safe(timeout=2.0)
            worker.join(0.3)


def churn(shop: Shop, over: Event, failures: Failures) -> None:
    """One connection per request: open, ask once, close, more than a hundred times a second."""
    engine = shop.engine("thumbnails", direct=True, poolclass=NullPool)

    def look_up() -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT name FROM products WHERE id = 7")).one()

    with _disposed(engine), _threads() as start:
        for _ in range(CHURN_THREADS):
            start(lambda: keep_requesting(look_up, CHURN_THINK_SECONDS, over, failures))


def serverless(shop: Shop, over: Event, failures: Failures) -> None:
    """Functions that scale out: every few seconds 56 of them start at once, and each opens a
    connection of its own."""

    def function(name: str) -> None:
        try:
            with psycopg.connect(shop.dsn(name), autocommit=True) as connection:
                connection.execute("SELECT count(*) FROM orders WHERE customer_id = 7")
                over.wait(BURST_HOLD_SECONDS)
        except psycopg.Error as error:
            failures.add(error)

    burst = 1000
    while not over.is_set():
        began = monotonic()
        burst += 1
        with _threads() as start:
            for _ in range(BURST_CLIENTS):
                start(function, f"fn-{burst}-{token_hex(2)}")
        over.wait(max(0.0, BURST_EVERY_SECONDS - (monotonic() - began)))


TROUBLES: Mapping[str, Trouble] = {
    "small-pool": small_pool,
    "leak": leak,
    "slow": slow,
    "churn": churn,
    "serverless": serverless,
}


class _Start(Protocol):
    def __call__(self, work: Callable[..., None], *args: object) -> Thread: ...


@contextlib.contextmanager
def _threads() -> Iterator[_Start]:
    """A function that starts threads; at the end all of them are waited for."""
    threads: list[Thread] = []

    def start(work: Callable[..., None], *args: object) -> Thread:
        thread = Thread(target=work, args=args, daemon=True)
        thread.start()
        threads.append(thread)
        return thread

    try:
        yield start
    finally:
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def _disposed(*engines: Engine) -> Iterator[None]:
    """Closes every connection of *engines* at the end."""
    try:
        yield
    finally:
        for engine in engines:
            engine.dispose()
