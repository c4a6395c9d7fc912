DROP TABLE service_ticket_tasks;
