-- The shop of the demo: 200 products, 1,000 customers, 4,000 orders with some 10,000 items.
-- Run once by its owner in an empty database.
CREATE TABLE products (
    id       integer PRIMARY KEY,
    name     text NOT NULL,
    category text NOT NULL,
    price    numeric(10, 2) NOT NULL,
    stock    integer NOT NULL
) WITH (fillfactor = 50);  -- stock changes all the time; room for it on the same page

CREATE TABLE customers (
    id      integer PRIMARY KEY,
    email   text NOT NULL UNIQUE,
    country text NOT NULL
);

CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customers,
    ordered_at  timestamptz NOT NULL DEFAULT now(),
    status      text NOT NULL DEFAULT 'paid'
);

CREATE TABLE order_items (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id   bigint NOT NULL REFERENCES orders ON DELETE CASCADE,
    product_id integer NOT NULL REFERENCES products,
    quantity   integer NOT NULL,
    price      numeric(10, 2) NOT NULL
);
CREATE INDEX ON order_items (order_id);

INSERT INTO products
SELECT id, 'Product ' || id,
       (ARRAY['garden', 'kitchen', 'books', 'toys', 'music'])[1 + id % 5],
       5 + (id * 37) % 95, 100000
FROM generate_series(1, 200) AS id;

INSERT INTO customers
SELECT id, 'customer' || id || '@shop.example', (ARRAY['DE', 'FR', 'PL', 'ES'])[1 + id % 4]
FROM generate_series(1, 1000) AS id;

INSERT INTO orders (customer_id, ordered_at)
SELECT 1 + (n * 7) % 1000, now() - n * interval '10 minutes'
FROM generate_series(1, 4000) AS n;

INSERT INTO order_items (order_id, product_id, quantity, price)
SELECT o.id, p.id, 1 + p.id % 3, p.price
FROM orders AS o
CROSS JOIN generate_series(0, 1 + (o.id % 4)::integer) AS k
JOIN products AS p ON p.id = 1 + (o.id * 13 + k * 29) % 200;
