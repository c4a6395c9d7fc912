ALTER TABLE opportunities DROP COLUMN stage;
