DROP MATERIALIZED VIEW dashboard_counts;
DROP TABLE service_tickets, parts, products, customers;
DROP FUNCTION touch();
