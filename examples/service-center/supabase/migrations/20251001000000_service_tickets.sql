CREATE TABLE customers (id bigserial PRIMARY KEY, name text NOT NULL);
CREATE TABLE products (id bigserial PRIMARY KEY, name text NOT NULL);
CREATE TABLE parts (id bigserial PRIMARY KEY, product bigint REFERENCES products, name text NOT NULL);
CREATE TABLE service_tickets (
    id bigserial PRIMARY KEY, title text NOT NULL, customer bigint REFERENCES customers, status text NOT NULL DEFAULT 'open',
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER service_tickets_touched BEFORE UPDATE ON service_tickets FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE service_tickets ENABLE ROW LEVEL SECURITY;
CREATE POLICY tickets_of_all ON service_tickets USING (true) WITH CHECK (true);
CREATE MATERIALIZED VIEW dashboard_counts AS SELECT status, count(*) AS tickets FROM service_tickets GROUP BY status;
INSERT INTO customers (name) SELECT 'customer ' || n FROM generate_series(1, 10) n;
INSERT INTO service_tickets (title, customer) SELECT 'ticket ' || n, 1 + n % 10 FROM generate_series(1, 200) n;
REFRESH MATERIALIZED VIEW dashboard_counts;
