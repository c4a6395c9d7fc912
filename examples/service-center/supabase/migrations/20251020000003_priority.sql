ALTER TABLE service_tickets ADD COLUMN priority int NOT NULL DEFAULT 3;
DROP MATERIALIZED VIEW dashboard_counts;
CREATE MATERIALIZED VIEW dashboard_counts AS SELECT status, priority, count(*) AS tickets FROM service_tickets GROUP BY status, priority;
