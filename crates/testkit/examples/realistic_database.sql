-- A database of many shapes for measuring: narrow and wide tables, documents with inverted indexes, blobs, partitions, keys
-- in a circle, row security, triggers, two hundred small tables, large objects. 2.3 GB with :scale 1.0; 0.01 is for a look.
\set ON_ERROR_STOP on
SELECT greatest(1000, (100000 * :scale)::int) AS users, greatest(2000, (5000000 * :scale)::int) AS narrow,
       greatest(2000, (400000 * :scale)::int) AS docs, greatest(200, (20000 * :scale)::int) AS blobs,
       greatest(8000, (800000 * :scale)::int) AS orders, greatest(2000, (1200000 * :scale)::int) AS events,
       greatest(10, (300 * :scale)::int) AS objects \gset
CREATE SCHEMA auth; CREATE SCHEMA private; CREATE SCHEMA extensions;
CREATE EXTENSION pgcrypto; CREATE EXTENSION "uuid-ossp" SCHEMA extensions; CREATE EXTENSION pg_trgm;
CREATE TYPE order_status AS ENUM ('new', 'paid', 'shipped', 'done', 'cancelled');
CREATE DOMAIN email AS text CHECK (VALUE ~ '^[^@]+@[^@]+$');
CREATE TYPE addr AS (street text, zip text);
CREATE TABLE auth.users (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email email NOT NULL UNIQUE, created_at timestamptz DEFAULT now());
INSERT INTO auth.users (email) SELECT 'user' || i || '@example.com' FROM generate_series(1, :users) AS i;

CREATE TABLE narrow (aid bigint NOT NULL, bid int, abalance int, ts timestamptz, flag bool, note varchar(40));
INSERT INTO narrow SELECT i, i % 50, (random() * 10000)::int, '2024-01-01'::timestamptz + i * interval '1 second', i % 3 = 0, 'acct ' || (i % 1000)
    FROM generate_series(1, :narrow) AS i;
ALTER TABLE narrow ADD PRIMARY KEY (aid); CREATE INDEX narrow_bid_ts ON narrow (bid, ts);

CREATE TEMP TABLE w AS SELECT row_number() OVER () AS i, x FROM (SELECT substr(md5(g::text), 1, 3 + (g % 7)) AS x FROM generate_series(1, 4000) AS g) AS q;
CREATE FUNCTION pg_temp.para(n int) RETURNS text LANGUAGE sql VOLATILE AS
    $$ SELECT string_agg(x, ' ') FROM (SELECT x FROM w OFFSET (random() * 3000)::int LIMIT n) AS q $$;
CREATE TABLE docs (id bigserial PRIMARY KEY, owner uuid, title text NOT NULL, body text, meta jsonb NOT NULL,
    tsv tsvector GENERATED ALWAYS AS (to_tsvector('simple', title)) STORED, len int GENERATED ALWAYS AS (length(body)) STORED,
    created_at timestamptz DEFAULT now(), tags text[], address addr);
INSERT INTO docs (owner, title, body, meta, tags, address)
    SELECT u.id, 'Doc ' || i || ' ' || md5(i::text), p.t || ' ' || i,
        jsonb_build_object('k', i, 'v', md5((i * 7)::text), 'nested', jsonb_build_object('a', i % 10, 'b', jsonb_build_array(i, i + 1, i + 2),
            's', left(p.t, 200)), 'flag', i % 2 = 0, 'price', round((random() * 100)::numeric, 2)),
        ARRAY['t' || i % 20, 't' || i % 7], ROW('Street ' || i, i % 10000)::addr
    FROM generate_series(1, :docs) AS i JOIN (SELECT n, pg_temp.para(60 + n % 150) AS t FROM generate_series(0, 1999) AS n) AS p ON p.n = i % 2000
    JOIN (SELECT id, row_number() OVER () AS rn FROM auth.users) AS u ON u.rn = 1 + i % :users;
CREATE INDEX docs_meta ON docs USING gin (meta jsonb_path_ops); CREATE INDEX docs_tsv ON docs USING gin (tsv);
CREATE INDEX docs_title_lower ON docs (lower(title)); CREATE INDEX docs_owner ON docs (owner);

CREATE TABLE blobs (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, data bytea);
ALTER TABLE blobs ALTER data SET STORAGE EXTERNAL;
INSERT INTO blobs (name, data) SELECT 'blob' || i, (SELECT string_agg(gen_random_bytes(1024), ''::bytea) FROM generate_series(1, 10 + i * 0))
    FROM generate_series(1, :blobs) AS i;

CREATE TABLE customers (id serial PRIMARY KEY, user_id uuid REFERENCES auth.users (id) ON DELETE CASCADE, email email, fav_order bigint);
INSERT INTO customers (user_id, email) SELECT id, email FROM auth.users;
CREATE SEQUENCE order_no START 1000 INCREMENT 7;
CREATE TABLE orders (id bigserial PRIMARY KEY, no bigint DEFAULT nextval('order_no') UNIQUE, customer_id int NOT NULL REFERENCES customers (id),
    status order_status NOT NULL DEFAULT 'new', total numeric(12, 2) CHECK (total >= 0), created_at timestamptz NOT NULL);
INSERT INTO orders (customer_id, status, total, created_at)
    SELECT 1 + i % :users, (enum_range(NULL::order_status))[1 + i % 5], (random() * 1000)::numeric(12, 2), '2023-01-01'::timestamptz + i * interval '37 sec'
    FROM generate_series(1, :orders) AS i;
ALTER TABLE customers ADD FOREIGN KEY (fav_order) REFERENCES orders (id) DEFERRABLE INITIALLY DEFERRED;
UPDATE customers SET fav_order = id WHERE id % 10 = 0;
CREATE TABLE order_items (order_id bigint REFERENCES orders (id) ON DELETE CASCADE, line int, sku text, qty int, price numeric(10, 2), PRIMARY KEY (order_id, line));
INSERT INTO order_items SELECT 1 + (i / 3) % :orders, i % 3, 'SKU-' || (i % 5000), 1 + i % 9, (random() * 50)::numeric(10, 2)
    FROM generate_series(0, 3 * :orders - 1) AS i;
CREATE INDEX order_items_sku ON order_items (sku); CREATE INDEX orders_cust ON orders (customer_id);
CREATE INDEX orders_created ON orders (created_at) WHERE status <> 'cancelled';

CREATE TABLE events (id bigint GENERATED BY DEFAULT AS IDENTITY, at timestamptz NOT NULL, kind text, payload jsonb, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
DO $$BEGIN FOR i IN 0..11 LOOP
    EXECUTE format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)', i, '2024-01-01'::date + (i || ' month')::interval,
        '2024-01-01'::date + ((i + 1) || ' month')::interval);
END LOOP; END$$;
CREATE TABLE events_default PARTITION OF events DEFAULT;
INSERT INTO events (at, kind, payload)
    SELECT '2024-01-01'::timestamptz + (i % 366) * interval '1 day' + (i % 86400) * interval '1 sec', 'k' || i % 12,
        jsonb_build_object('i', i, 'u', i % 1000, 'p', '/path/' || i % 300)
    FROM generate_series(1, :events) AS i;
CREATE INDEX events_kind ON events (kind, at);

CREATE MATERIALIZED VIEW mv_sales AS SELECT customer_id, status, count(*) AS n, sum(total) AS s FROM orders GROUP BY 1, 2;
CREATE UNIQUE INDEX ON mv_sales (customer_id, status);
CREATE VIEW v_big AS SELECT o.*, c.email FROM orders AS o JOIN customers AS c ON c.id = o.customer_id WHERE total > 900;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.created_at := coalesce(NEW.created_at, now()); RETURN NEW; END$$;
CREATE TRIGGER orders_touch BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE private.audit (id bigserial PRIMARY KEY, order_id bigint REFERENCES public.orders (id), op text, at timestamptz DEFAULT now());
CREATE FUNCTION audit_orders() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
    $$BEGIN INSERT INTO private.audit (order_id, op) VALUES (NEW.id, TG_OP); RETURN NULL; END$$;
CREATE TRIGGER orders_audit AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION audit_orders();
ALTER TABLE orders DISABLE TRIGGER orders_audit;
INSERT INTO private.audit (order_id, op) SELECT i, 'UPDATE' FROM generate_series(1, :orders / 16) AS i;
ALTER TABLE orders ENABLE TRIGGER orders_audit;

CREATE ROLE app_user NOLOGIN; CREATE ROLE app_login LOGIN IN ROLE app_user; CREATE ROLE tenant NOSUPERUSER LOGIN;
GRANT USAGE ON SCHEMA public TO app_user; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_user;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app_user;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO app_user;
CREATE FUNCTION current_uid() RETURNS uuid LANGUAGE sql STABLE AS $$SELECT nullif(current_setting('app.uid', true), '')::uuid$$;
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_docs ON docs FOR ALL TO app_user USING (owner = current_uid()) WITH CHECK (owner = current_uid());
ALTER TABLE customers ENABLE ROW LEVEL SECURITY; CREATE POLICY own_customers ON customers TO app_user USING (user_id = current_uid());
DO $$BEGIN FOR i IN 1..200 LOOP
    EXECUTE format('CREATE TABLE small_%s (id serial PRIMARY KEY, name text NOT NULL, ref int REFERENCES customers (id), v numeric, created_at timestamptz DEFAULT now())',
        lpad(i::text, 3, '0'));
    EXECUTE format('INSERT INTO small_%s (name, ref, v) SELECT ''n'' || g, 1 + g, g * 1.5 FROM generate_series(1, 50) AS g', lpad(i::text, 3, '0'));
    EXECUTE format('CREATE INDEX ON small_%s (name)', lpad(i::text, 3, '0'));
END LOOP; END$$;
CREATE TABLE schema_migrations (version text PRIMARY KEY); INSERT INTO schema_migrations VALUES ('20240101'), ('20240202');
SELECT count(lo_from_bytea(0, (SELECT string_agg(gen_random_bytes(1000), ''::bytea) FROM generate_series(1, 50 + g * 0)))) FROM generate_series(1, :objects) AS g;
COMMENT ON TABLE docs IS 'documents';
CREATE PUBLICATION pub1 FOR TABLE orders, order_items;
VACUUM ANALYZE;
