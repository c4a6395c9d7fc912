CREATE TABLE organizations (
    id bigserial PRIMARY KEY, name text NOT NULL, is_principal boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE contacts (
    id bigserial PRIMARY KEY, organization_id bigint REFERENCES organizations, name text NOT NULL, email text UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE opportunities (
    id bigserial PRIMARY KEY, organization_id bigint NOT NULL REFERENCES organizations, title text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO organizations (name, is_principal) VALUES ('Principal', true), ('Customer', false);
INSERT INTO contacts (organization_id, name, email)
    SELECT 1 + n % 2, 'Contact ' || n, 'contact' || n || '@example.org' FROM generate_series(1, 40) n;
INSERT INTO opportunities (organization_id, title) SELECT 1 + n % 2, 'Opportunity ' || n FROM generate_series(1, 20) n;
