-- The processor's role: owner of its schema, and no superuser. The image runs this once, as its superuser, when it
-- makes the database; docs/POSTGRES.md has all rights.
\getenv role TIDEMARK_ROLE
\getenv password TIDEMARK_ROLE_PASSWORD
CREATE ROLE :"role" LOGIN PASSWORD :'password';
ALTER SCHEMA public OWNER TO :"role";
SELECT format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO %I', current_database(), :'role') \gexec
