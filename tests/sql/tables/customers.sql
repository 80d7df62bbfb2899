CREATE TABLE customers (
  customer_id BIGINT PRIMARY KEY, name VARCHAR, tier VARCHAR, region VARCHAR, referrer BIGINT
) WITH (source = 'T.CUSTOMERS', ttl = 'none');
