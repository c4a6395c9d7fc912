DROP MATERIALIZED VIEW dashboard_counts;
ALTER TABLE service_tickets DROP COLUMN priority;
CREATE MATERIALIZED VIEW dashboard_counts AS SELECT status, count(*) AS tickets FROM service_tickets GROUP BY status;
