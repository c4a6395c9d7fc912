CREATE TABLE service_ticket_tasks (
    id bigserial PRIMARY KEY, ticket bigint NOT NULL REFERENCES service_tickets, template bigint NOT NULL REFERENCES task_templates,
    done boolean NOT NULL DEFAULT false);
ALTER TABLE service_ticket_tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY tasks_of_all ON service_ticket_tasks USING (true) WITH CHECK (true);
