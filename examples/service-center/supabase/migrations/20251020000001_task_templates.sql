CREATE TABLE task_templates (id bigserial PRIMARY KEY, name text NOT NULL);
INSERT INTO task_templates (name) VALUES ('inspect'), ('repair'), ('test');
