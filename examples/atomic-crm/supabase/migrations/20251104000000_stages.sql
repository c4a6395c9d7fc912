ALTER TABLE opportunities ADD COLUMN stage text NOT NULL DEFAULT 'new';
