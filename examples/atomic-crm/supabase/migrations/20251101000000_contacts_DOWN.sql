DROP TABLE opportunities, contacts, organizations;
